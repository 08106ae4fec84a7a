package codec

// rawCodec keeps frames as they are.
type rawCodec struct{}

func (rawCodec) ID() ID { return Raw }

func (rawCodec) Encode(dst, src []byte) (int, error) {
	if len(src) > len(dst) {
		return 0, ErrShort
	}
	return copy(dst, src), nil
}

func (c rawCodec) Decode(dst, src []byte) (int, error) { return c.Encode(dst, src) }

func (c rawCodec) DecodePart(dst, src []byte, need int) (int, error) {
	if need < len(dst) {
		src = src[:min(need, len(src))]
	}
	return c.Decode(dst, src)
}
