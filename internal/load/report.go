package load

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"
)

// A Report is what a run gave, and how it is told.
type Report struct {
	Version string            // of the program, for the field "fio version"
	Name    string            // of the jobs
	Given   map[string]string // options as they were given, by fio's names
	Time    time.Time         // when the run ended
	Results []Result
	Group   bool // group_reporting: all jobs as one

	// Bins adds the whole distribution of the latencies to the document (json+).
	Bins bool
}

// reported are the results that are reported one by one: of each job, or of all
// as one.
func (r *Report) reported() []Result {
	if !r.Group || len(r.Results) < 2 {
		return r.Results
	}
	all := r.Results[0]
	for i := range r.Results[1:] {
		all.merge(&r.Results[i+1])
	}
	return []Result{all}
}

func (r *Result) merge(s *Result) {
	r.Read.merge(&s.Read)
	r.Write.merge(&s.Write)
	r.Sync.merge(&s.Sync)
	r.Elapsed = max(r.Elapsed, s.Elapsed)
	r.user += s.user
	r.system += s.system
	r.switches += s.switches
	r.majors += s.majors
	r.minors += s.minors
	if r.Err == nil {
		r.Err = s.Err
	}
}

// merge adds the traffic of another job. Samples of several jobs can't be added
// up; as in fio those of all are kept, and each stands for one job.
func (t *Traffic) merge(u *Traffic) {
	t.IOs += u.IOs
	t.Bytes += u.Bytes
	t.Short += u.Short
	t.Runtime = max(t.Runtime, u.Runtime)
	t.Latency.merge(&u.Latency)
	t.KiBps.merge(&u.KiBps)
	t.IOPS.merge(&u.IOPS)
}

func (t *Traffic) bytesPerSecond() float64 { return t.perSecond(t.Bytes) }
func (t *Traffic) iosPerSecond() float64   { return t.perSecond(t.IOs) }

func (t *Traffic) perSecond(n int64) float64 {
	if t.Runtime <= 0 {
		return 0
	}
	return float64(n) / t.Runtime.Seconds()
}

// WriteJSON writes fio's JSON document.
func (r *Report) WriteJSON(w io.Writer) error {
	b, err := json.MarshalIndent(r.document(), "", "  ")
	if err != nil {
		return err
	}
	_, err = w.Write(append(b, '\n'))
	return err
}

func (r *Report) document() document {
	d := document{
		Version:     r.Version,
		Timestamp:   r.Time.Unix(),
		TimestampMS: r.Time.UnixMilli(),
		Time:        r.Time.Format(time.ANSIC),
		DiskUtil:    []struct{}{},
	}
	results := r.reported()
	var reads, writes float64
	for i := range results {
		reads += results[i].Read.bytesPerSecond()
		writes += results[i].Write.bytesPerSecond()
	}
	for i := range results {
		d.Jobs = append(d.Jobs, r.jobDocument(&results[i], reads, writes))
	}
	return d
}

// jobDocument describes one result; reads and writes are the bandwidth of all,
// in bytes a second.
func (r *Report) jobDocument(s *Result, reads, writes float64) jobDocument {
	seconds := max(s.Elapsed.Seconds(), 1e-9)
	given := r.Given
	if given == nil {
		given = map[string]string{}
	}
	d := jobDocument{
		Name:    r.Name,
		Error:   s.errno(),
		Elapsed: int64(s.Elapsed.Seconds()) + 1,
		Options: given,
		Read:    r.trafficDocument(&s.Read, reads),
		Write:   r.trafficDocument(&s.Write, writes),
		Trim:    r.trafficDocument(&Traffic{}, 0),
		Sync:    syncDocument{s.Sync.N, r.latencyDocument(&s.Sync)},

		JobRuntime: s.Elapsed.Milliseconds(),
		User:       100 * s.user.Seconds() / seconds,
		System:     100 * s.system.Seconds() / seconds,
		Switches:   s.switches,
		Majors:     s.majors,
		Minors:     s.minors,

		DepthLevel:        shares{{"1", 100}, {"2", 0}, {"4", 0}, {"8", 0}, {"16", 0}, {"32", 0}, {">=64", 0}},
		DepthSubmit:       shares{{"0", 0}, {"4", 100}, {"8", 0}, {"16", 0}, {"32", 0}, {"64", 0}, {">=64", 0}},
		Depth:             1,
		LatencyPercentile: 100,
	}
	d.DepthComplete = d.DepthSubmit
	d.LatencyNS, d.LatencyUS, d.LatencyMS = s.latencyShares()
	return d
}

func (r *Report) trafficDocument(t *Traffic, group float64) trafficDocument {
	d := trafficDocument{
		Bytes: t.Bytes, KiB: t.Bytes / 1024,
		BytesPerSecond: int64(t.bytesPerSecond()), KiBPerSecond: int64(t.bytesPerSecond()) / 1024,
		IOPS: t.iosPerSecond(), Runtime: t.Runtime.Milliseconds(),
		IOs: t.IOs, Short: t.Short,
		Clat: r.latencyDocument(&t.Latency), Lat: r.latencyDocument(&t.Latency),

		KiBpsMin: int64(t.KiBps.Min), KiBpsMax: int64(t.KiBps.Max),
		KiBpsMean: t.KiBps.mean(), KiBpsDev: t.KiBps.deviation(), KiBpsN: t.KiBps.N,
		IOPSMin: int64(t.IOPS.Min), IOPSMax: int64(t.IOPS.Max),
		IOPSMean: t.IOPS.mean(), IOPSDev: t.IOPS.deviation(), IOPSN: t.IOPS.N,
	}
	// fio gives percentiles of one kind of latency only.
	d.Lat.Percentile, d.Lat.Bins = nil, nil
	if group > 0 {
		d.KiBpsShare = min(100*t.KiBps.mean()*1024/group, 100)
	}
	return d
}

func (r *Report) latencyDocument(l *Latency) latencyDocument {
	d := latencyDocument{Min: int64(l.Min), Max: int64(l.Max), Mean: l.mean(), Deviation: l.deviation(), N: l.N}
	for i, ns := range l.percentileValues() {
		d.Percentile = append(d.Percentile, share[int64]{fmt.Sprintf("%f", percentiles[i]), ns})
	}
	if r.Bins {
		for ns, n := range l.all() {
			d.Bins = append(d.Bins, share[int64]{fmt.Sprint(ns), n})
		}
	}
	return d
}

// latencyBounds are the upper ends of the classes into which fio sorts latencies;
// what is above the last one is a class of its own.
var latencyBounds = struct{ ns, us, ms []int64 }{
	ns: []int64{2, 4, 10, 20, 50, 100, 250, 500, 750, 1000},
	us: []int64{2, 4, 10, 20, 50, 100, 250, 500, 750, 1000},
	ms: []int64{2, 4, 10, 20, 50, 100, 250, 500, 750, 1000, 2000},
}

// latencyShares sorts all latencies of reads and writes into classes, in percent.
func (r *Result) latencyShares() (ns, us, ms shares) {
	all := r.Read.Latency
	all.merge(&r.Write.Latency)
	total := max(float64(all.N), 1)
	var bounds []int64
	take := func(unit time.Duration, of []int64) (classes shares) {
		for _, b := range of {
			classes = append(classes, share[percent]{name: fmt.Sprint(b)})
			bounds = append(bounds, b*int64(unit))
		}
		return classes
	}
	ns = take(time.Nanosecond, latencyBounds.ns)
	us = take(time.Microsecond, latencyBounds.us)
	ms = append(take(time.Millisecond, latencyBounds.ms), share[percent]{name: ">=2000"})
	for d, n := range all.all() {
		i, _ := slices.BinarySearch(bounds, d+1)
		class := &ms[len(ms)-1]
		switch {
		case i < len(ns):
			class = &ns[i]
		case i < len(ns)+len(us):
			class = &us[i-len(ns)]
		case i < len(bounds):
			class = &ms[i-len(ns)-len(us)]
		}
		class.value += percent(100 * float64(n) / total)
	}
	return ns, us, ms
}

// A percent is written with six digits, as fio does.
type percent float64

func (p percent) MarshalJSON() ([]byte, error) { return fmt.Appendf(nil, "%f", float64(p)), nil }

// A share is a named value; a list of them is an object that keeps its order.
type share[T any] struct {
	name  string
	value T
}

type ordered[T any] []share[T]

type shares = ordered[percent]

func (o ordered[T]) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	for i, s := range o {
		separator := byte(',')
		if i == 0 {
			separator = '{'
		}
		v, err := json.Marshal(s.value)
		if err != nil {
			return nil, err
		}
		b.WriteByte(separator)
		fmt.Fprintf(&b, "%q:%s", s.name, v)
	}
	if len(o) == 0 {
		b.WriteByte('{')
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}
