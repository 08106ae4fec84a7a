package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/pflag"

	"lazyfs/internal/load"
)

var benchCommand = command{
	name:    "bench",
	args:    []string{"map STORE", "file PATH"},
	min:     2,
	max:     2,
	summary: "Measure a mapping or a file as fio does",
	about: `Reads and writes, measures, and reports as fio does; options, output and JSON
are fio's. map works on the mapping of a store. file works on a file, such as
one of a mount, with pread and pwrite (fio's ioengine=psync), and drops it from
the page cache before.

Nothing that exists is overwritten unless --overwrite is given. Without it, map
keeps what is written in memory, and STORE stays as it is; file writes only to
a PATH that does not exist or is empty, which grows to --offset and --size.

--access=view copies to and from uffdmap.Open, bytes to and from uffdmap.Map,
and readat reads and writes the store without a mapping; there --memory-limit
is a cache of decompressed frames. Writes are tracked by the kernel in a view
(async) and by faults in bytes (sync); none leaves them untracked.

With --verify=crc32c what was written is read back and checked, and a job that
only reads checks blocks that such a job, or fio, has written; exit code 1 says
that a block is wrong. Ctrl-C ends a run and prints what was measured.`,
	examples: []string{
		"lazyfs bench map --rw=randread --bs=4k vm.img.lazy",
		"lazyfs bench map --rw=randrw --access=bytes --memory-limit=64M --map=pages.png vm.img.lazy",
		"lazyfs bench file --rw=randread --runtime=10 --time_based --output-format=json mnt/vm.img",
		"lazyfs bench file --rw=randwrite --size=1G --fsync=32 --verify=crc32c mnt/new",
	},
	declare: func(f *pflag.FlagSet) action {
		b := bencher{flagSet: f}
		b.declare(f)
		return b.run
	},
}

// A bencher is one run of bench.
type bencher struct {
	flagSet *pflag.FlagSet
	options load.Options
	benchFlags

	report, png *newFile // of --output and --map; nil without
}

func (b *bencher) run(ctx context.Context, args []string) (err error) {
	kind, path := args[0], args[1]
	if err := b.checkFlags(kind); err != nil {
		return err
	}
	for _, names := range [][2]string{{b.output, path}, {b.picture, path}, {b.picture, b.output}} {
		if names[0] != "" && sameFile(names[0], names[1]) {
			return fmt.Errorf("%s: would replace %s", names[0], names[1])
		}
	}
	// What can't be written is told before a run, which may take long.
	if b.output != "" {
		if b.report, err = createOutput(b.output); err != nil {
			return err
		}
		defer b.report.discard()
	}
	if b.picture != "" {
		if b.png, err = createOutput(b.picture); err != nil {
			return err
		}
		defer b.png.discard()
	}
	target, err := b.openTarget(kind, path)
	if err != nil {
		return err
	}
	return errors.Join(b.measure(ctx, target, path), target.Close())
}

func (b *bencher) measure(ctx context.Context, target benchTarget, path string) error {
	if err := b.options.Check(target.size()); err != nil {
		return optionError(err)
	}
	if err := target.prepare(&b.options); err != nil {
		return err
	}
	watched := target
	var touches *touchedPages
	if b.picture != "" {
		touches = watchTouches(target)
		watched = touches
	}
	p := newProgress(b.quiet, b.options.Name)
	results, runErr := load.Run(ctx, watched, b.options, func(l load.Progress) {
		showLoad(p, l)
		if touches != nil {
			touches.look(touches.seen)
		}
	})
	p.end()
	report := load.Report{
		Version: "lazyfs-" + buildVersion(),
		Name:    b.options.Name,
		Given:   b.given(path),
		Time:    time.Now(),
		Results: results,
		Group:   b.group,
		Bins:    b.format.value == "json+",
	}
	var errs []error
	for _, err := range parts(runErr) {
		if errors.As(err, new(*load.VerifyError)) {
			err = notSoError{err}
		}
		errs = append(errs, err)
	}
	errs = append(errs, b.writeReport(&report))
	if b.picture != "" {
		errs = append(errs, touches.draw(b.png, path, &b.options))
	}
	return errors.Join(errs...)
}

// showLoad tells the progress of a run as fio does.
func showLoad(p *progress, l load.Progress) {
	p.show(func(time.Duration) string {
		text := fmt.Sprintf("%.0f%%, %.1f MB/s, %.0f IOPS", 100*l.Part, float64(l.Bytes)/l.Elapsed.Seconds()/1e6, float64(l.IOs)/l.Elapsed.Seconds())
		if left := l.Left(); left > 0 {
			text += fmt.Sprintf(", %v left", left.Round(time.Second))
		}
		return text
	})
}

// writeReport writes the report to standard output or to --output.
func (b *bencher) writeReport(r *load.Report) error {
	write := r.WriteText
	if b.format.value != "normal" {
		write = r.WriteJSON
	}
	if b.report == nil {
		return write(os.Stdout)
	}
	if err := write(b.report); err != nil {
		return err
	}
	return b.report.finish(nil)
}
