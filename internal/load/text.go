package load

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"
)

// WriteText writes the report as fio prints it for people.
func (r *Report) WriteText(w io.Writer) error {
	var b strings.Builder
	results := r.reported()
	var reads, writes []*Traffic
	for i := range results {
		s := &results[i]
		jobs := 1
		if r.Group {
			jobs = len(r.Results)
		}
		fmt.Fprintf(&b, "%s: (groupid=0, jobs=%d): err=%2d: %s\n", r.Name, jobs, s.errno(), r.Time.Format(time.ANSIC))
		writeResult(&b, s)
	}
	for i := range r.Results {
		s := &r.Results[i]
		if s.Read.IOs > 0 {
			reads = append(reads, &s.Read)
		}
		if s.Write.IOs > 0 {
			writes = append(writes, &s.Write)
		}
	}
	b.WriteString("\nRun status group 0 (all jobs):\n")
	writeGroup(&b, " READ", reads)
	writeGroup(&b, "WRITE", writes)
	_, err := io.WriteString(w, b.String())
	return err
}

func writeResult(b *strings.Builder, s *Result) {
	writeTraffic(b, "read", &s.Read)
	writeTraffic(b, "write", &s.Write)
	if s.Sync.N > 0 {
		b.WriteString("  fsync/fdatasync/sync_file_range:\n")
		writeLatency(b, "sync", &s.Sync)
		writePercentiles(b, "sync", &s.Sync)
	}
	ns, us, ms := s.latencyShares()
	writeShares(b, "lat (nsec)", ns)
	writeShares(b, "lat (usec)", us)
	writeShares(b, "lat (msec)", ms)
	seconds := max(s.Elapsed.Seconds(), 1e-9)
	fmt.Fprintf(b, "  %-13s: usr=%.2f%%, sys=%.2f%%, ctx=%d, majf=%d, minf=%d\n", "cpu",
		100*s.user.Seconds()/seconds, 100*s.system.Seconds()/seconds, s.switches, s.majors, s.minors)
	fmt.Fprintf(b, "     issued rwts: total=%d,%d,0,%d short=%d,%d,0,0 dropped=0,0,0,0\n",
		s.Read.IOs, s.Write.IOs, s.Sync.N, s.Read.Short, s.Write.Short)
	if s.Err != nil {
		fmt.Fprintf(b, "     error       : %v\n", s.Err)
	}
}

func writeTraffic(b *strings.Builder, name string, t *Traffic) {
	if t.IOs == 0 {
		return
	}
	bw := t.bytesPerSecond()
	fmt.Fprintf(b, "  %s: IOPS=%s, BW=%sB/s (%sB/s)(%sB/%dmsec)\n", name, short(t.iosPerSecond(), 1000),
		short(bw, 1024), short(bw, 1000), short(float64(t.Bytes), 1024), t.Runtime.Milliseconds())
	writeLatency(b, "clat", &t.Latency)
	writePercentiles(b, "clat", &t.Latency)
	for _, s := range []struct {
		name string
		of   *Samples
	}{{"bw (  KiB/s)", &t.KiBps}, {"iops       ", &t.IOPS}} {
		if s.of.N > 0 {
			fmt.Fprintf(b, "   %-12s: min=%.0f, max=%.0f, avg=%.2f, stdev=%.2f, samples=%d\n",
				s.name, s.of.Min, s.of.Max, s.of.mean(), s.of.deviation(), s.of.N)
		}
	}
}

// scale chooses the unit in which latencies are readable, and how many
// nanoseconds it has.
func (l *Latency) scale() (unit string, ns float64) {
	switch {
	case l.Max > 100*time.Millisecond && l.Min > 2*time.Millisecond:
		return "msec", 1e6
	case l.Max > 100*time.Microsecond && l.Min > 2*time.Microsecond:
		return "usec", 1e3
	}
	return "nsec", 1
}

func writeLatency(b *strings.Builder, name string, l *Latency) {
	unit, ns := l.scale()
	fmt.Fprintf(b, "    %s (%s): min=%s, max=%s, avg=%.2f, stdev=%.2f\n", name, unit,
		short(float64(l.Min)/ns, 1000), short(float64(l.Max)/ns, 1000), l.mean()/ns, l.deviation()/ns)
}

func writePercentiles(b *strings.Builder, name string, l *Latency) {
	unit, ns := l.scale()
	values := l.percentileValues()
	width := 0
	for _, v := range values {
		width = max(width, len(fmt.Sprintf("%.0f", float64(v)/ns)))
	}
	fmt.Fprintf(b, "    %s percentiles (%s):\n", name, unit)
	perLine := 5
	if width > 5 {
		perLine = 3
	}
	line := 0
	for chunk := range slices.Chunk(values, perLine) {
		b.WriteString("     |")
		for i, v := range chunk {
			end := ","
			if line*perLine+i == len(values)-1 {
				end = ""
			}
			fmt.Fprintf(b, " %5.2fth=[%*.0f]%s", percentiles[line*perLine+i], width, float64(v)/ns, end)
		}
		b.WriteByte('\n')
		line++
	}
}

func writeShares(b *strings.Builder, name string, classes shares) {
	var parts []string
	for _, c := range classes {
		if c.value >= 0.005 {
			parts = append(parts, fmt.Sprintf("%s=%.2f%%", c.name, float64(c.value)))
		}
	}
	for chunk := range slices.Chunk(parts, 6) {
		fmt.Fprintf(b, "  %-13s: %s\n", name, strings.Join(chunk, ", "))
	}
}

// writeGroup writes what all jobs did together.
func writeGroup(b *strings.Builder, name string, all []*Traffic) {
	if len(all) == 0 {
		return
	}
	least, most := math.Inf(1), 0.0
	shortest, longest := all[0].Runtime, all[0].Runtime
	var bytes int64
	for _, t := range all {
		least, most = min(least, t.bytesPerSecond()), max(most, t.bytesPerSecond())
		shortest, longest = min(shortest, t.Runtime), max(longest, t.Runtime)
		bytes += t.Bytes
	}
	bw := float64(bytes) / max(longest.Seconds(), 1e-9)
	fmt.Fprintf(b, "  %s: bw=%sB/s (%sB/s), %sB/s-%sB/s (%sB/s-%sB/s), io=%sB (%sB), run=%d-%dmsec\n", name,
		short(bw, 1024), short(bw, 1000), short(least, 1024), short(most, 1024), short(least, 1000), short(most, 1000),
		short(float64(bytes), 1024), short(float64(bytes), 1000), shortest.Milliseconds(), longest.Milliseconds())
}

// short writes v with at most four digits and a prefix of base 1000 or 1024.
func short(v, base float64) string {
	prefixes := []string{"", "k", "M", "G", "T", "P", "E"}
	if base == 1024 {
		prefixes = []string{"", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"}
	}
	i := 0
	for v >= 9999.5 && i < len(prefixes)-1 {
		v, i = v/base, i+1
	}
	digits := 0
	if i > 0 && v < 99.95 {
		digits = 1
	}
	return fmt.Sprintf("%.*f%s", digits, v, prefixes[i])
}
