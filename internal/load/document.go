package load

// The types of this file are fio's JSON document, field by field and in its
// order. What a run of lazyfs does not have is there and zero.

type document struct {
	Version     string        `json:"fio version"`
	Timestamp   int64         `json:"timestamp"`
	TimestampMS int64         `json:"timestamp_ms"`
	Time        string        `json:"time"`
	Jobs        []jobDocument `json:"jobs"`
	DiskUtil    []struct{}    `json:"disk_util"`
}

type jobDocument struct {
	Name    string            `json:"jobname"`
	Group   int               `json:"groupid"`
	Error   int               `json:"error"` // errno
	ETA     int               `json:"eta"`
	Elapsed int64             `json:"elapsed"` // seconds, a begun one counts
	Options map[string]string `json:"job options"`
	Read    trafficDocument   `json:"read"`
	Write   trafficDocument   `json:"write"`
	Trim    trafficDocument   `json:"trim"`
	Sync    syncDocument      `json:"sync"`

	JobRuntime int64   `json:"job_runtime"` // milliseconds
	User       float64 `json:"usr_cpu"`     // percent
	System     float64 `json:"sys_cpu"`     // percent
	Switches   int64   `json:"ctx"`
	Majors     int64   `json:"majf"`
	Minors     int64   `json:"minf"`

	DepthLevel    shares `json:"iodepth_level"`
	DepthSubmit   shares `json:"iodepth_submit"`
	DepthComplete shares `json:"iodepth_complete"`
	LatencyNS     shares `json:"latency_ns"`
	LatencyUS     shares `json:"latency_us"`
	LatencyMS     shares `json:"latency_ms"`

	Depth             int     `json:"latency_depth"`
	LatencyTarget     int     `json:"latency_target"`
	LatencyPercentile percent `json:"latency_percentile"`
	LatencyWindow     int     `json:"latency_window"`
}

type trafficDocument struct {
	Bytes          int64           `json:"io_bytes"`
	KiB            int64           `json:"io_kbytes"`
	BytesPerSecond int64           `json:"bw_bytes"`
	KiBPerSecond   int64           `json:"bw"`
	IOPS           float64         `json:"iops"`
	Runtime        int64           `json:"runtime"` // milliseconds
	IOs            int64           `json:"total_ios"`
	Short          int64           `json:"short_ios"`
	Dropped        int64           `json:"drop_ios"`
	Slat           latencyDocument `json:"slat_ns"`
	Clat           latencyDocument `json:"clat_ns"`
	Lat            latencyDocument `json:"lat_ns"`

	KiBpsMin   int64   `json:"bw_min"`
	KiBpsMax   int64   `json:"bw_max"`
	KiBpsShare float64 `json:"bw_agg"` // percent of all jobs
	KiBpsMean  float64 `json:"bw_mean"`
	KiBpsDev   float64 `json:"bw_dev"`
	KiBpsN     int64   `json:"bw_samples"`
	IOPSMin    int64   `json:"iops_min"`
	IOPSMax    int64   `json:"iops_max"`
	IOPSMean   float64 `json:"iops_mean"`
	IOPSDev    float64 `json:"iops_stddev"`
	IOPSN      int64   `json:"iops_samples"`
}

type syncDocument struct {
	IOs int64           `json:"total_ios"`
	Lat latencyDocument `json:"lat_ns"`
}

type latencyDocument struct {
	Min        int64          `json:"min"`
	Max        int64          `json:"max"`
	Mean       float64        `json:"mean"`
	Deviation  float64        `json:"stddev"`
	N          int64          `json:"N"`
	Percentile ordered[int64] `json:"percentile,omitempty"`
	Bins       ordered[int64] `json:"bins,omitempty"`
}
