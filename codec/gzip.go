package codec

import (
	"bytes"
	"io"
	"sync"

	"github.com/klauspost/compress/gzip"
)

// gzipCodec writes gzip files of one member and reads those of any number.
type gzipCodec struct{ level int }

// A gzipEncoder writes into dst.
type gzipEncoder struct {
	*gzip.Writer
	dst []byte
	n   int // bytes written to dst
}

// A gzipDecoder reads from src.
type gzipDecoder struct {
	gzip.Reader
	src   bytes.Reader
	probe [1]byte // for reading past the end of a full destination
}

var (
	gzipEncoders [gzip.BestCompression + 1]sync.Pool // by level
	gzipDecoders = sync.Pool{New: func() any { return new(gzipDecoder) }}
)

func newGzip(level int) gzipCodec {
	if level == 0 {
		level = 6
	}
	return gzipCodec{level}
}

func (gzipCodec) ID() ID { return Gzip }

func (c gzipCodec) Encode(dst, src []byte) (int, error) {
	e, err := c.encoder()
	if err != nil {
		return 0, err
	}
	defer gzipEncoders[c.level].Put(e)
	defer func() { e.dst = nil }()
	e.dst, e.n = dst, 0
	e.Reset((*gzipRoom)(e))
	if _, err := e.Writer.Write(src); err != nil {
		return 0, err
	}
	if err := e.Close(); err != nil {
		return 0, err
	}
	return e.n, nil
}

// encoder takes an encoder out of the pool or makes one.
func (c gzipCodec) encoder() (*gzipEncoder, error) {
	if e, ok := gzipEncoders[c.level].Get().(*gzipEncoder); ok {
		return e, nil
	}
	w, err := gzip.NewWriterLevel(io.Discard, c.level)
	if err != nil {
		return nil, err
	}
	return &gzipEncoder{Writer: w}, nil
}

// gzipRoom is the writer below a gzipEncoder: its dst and nothing more.
type gzipRoom gzipEncoder

func (r *gzipRoom) Write(p []byte) (int, error) {
	if len(p) > len(r.dst)-r.n {
		return 0, ErrShort
	}
	r.n += copy(r.dst[r.n:], p)
	return len(p), nil
}

func (gzipCodec) Decode(dst, src []byte) (int, error) {
	d := gzipDecoders.Get().(*gzipDecoder)
	defer gzipDecoders.Put(d)
	defer d.src.Reset(nil)
	d.src.Reset(src)
	if err := d.Reset(&d.src); err != nil {
		return 0, corrupt(Gzip, err)
	}
	for n := 0; ; {
		room := dst[n:]
		if len(room) == 0 {
			room = d.probe[:]
		}
		m, err := d.Read(room)
		if m > len(dst)-n {
			return 0, ErrShort
		}
		n += m
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return 0, corrupt(Gzip, err)
		}
	}
}

func (c gzipCodec) DecodePart(dst, src []byte, _ int) (int, error) { return c.Decode(dst, src) }
