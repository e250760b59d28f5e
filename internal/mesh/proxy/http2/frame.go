package http2

import (
	"encoding/binary"

	"golang.org/x/net/http2"
)

const (
	frameHeader = 9
	settingSize = 6
)

// frame is one whole frame; its payload lies in the read buffer.
type frame struct {
	kind    http2.FrameType
	flags   http2.Flags
	stream  uint32
	payload []byte
}

// parseFrame takes the first frame off b. It reports false when b holds no whole
// frame; err is not nil as soon as a frame is seen to be too large.
func parseFrame(b []byte) (f frame, rest []byte, whole bool, err *connError) {
	if len(b) < frameHeader {
		return f, b, false, nil
	}
	length := int(b[0])<<16 | int(b[1])<<8 | int(b[2])
	if length > maxFrame {
		return f, b, false, &connError{http2.ErrCodeFrameSize, "frame is too large"}
	}
	if len(b) < frameHeader+length {
		return f, b, false, nil
	}
	f = frame{http2.FrameType(b[3]), http2.Flags(b[4]), binary.BigEndian.Uint32(b[5:]) &^ (1 << 31), b[frameHeader : frameHeader+length]}
	return f, b[frameHeader+length:], true, nil
}

// unpad returns the payload without padding (DATA, HEADERS).
func (f *frame) unpad() ([]byte, *connError) {
	p := f.payload
	if f.flags&http2.FlagDataPadded == 0 {
		return p, nil
	}
	if len(p) == 0 {
		return nil, &connError{http2.ErrCodeFrameSize, "padded frame without a pad length"}
	}
	pad := int(p[0])
	if pad >= len(p) {
		return nil, &connError{http2.ErrCodeProtocol, "padding exceeds the frame"}
	}
	return p[1 : len(p)-pad], nil
}

func appendFrameHeader(b []byte, length int, kind http2.FrameType, flags http2.Flags, stream uint32) []byte {
	b = append(b, byte(length>>16), byte(length>>8), byte(length), byte(kind), byte(flags))
	return binary.BigEndian.AppendUint32(b, stream)
}

func appendSetting(b []byte, id http2.SettingID, value uint32) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(b, uint16(id)), value)
}

func appendReset(b []byte, stream uint32, code ErrCode) []byte {
	b = appendFrameHeader(b, 4, http2.FrameRSTStream, 0, stream)
	return binary.BigEndian.AppendUint32(b, uint32(code))
}

func appendCredit(b []byte, stream uint32, n int) []byte {
	b = appendFrameHeader(b, 4, http2.FrameWindowUpdate, 0, stream)
	return binary.BigEndian.AppendUint32(b, uint32(n))
}

func appendGoAway(b []byte, last uint32, code ErrCode) []byte {
	b = appendFrameHeader(b, 8, http2.FrameGoAway, 0, 0)
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(b, last), uint32(code))
}

// endHeaders finishes the header block that began at from with room for a frame
// header, cutting it into frames that every peer takes.
func endHeaders(b []byte, from int, stream uint32, end bool) []byte {
	length := len(b) - from - frameHeader
	flags := http2.Flags(0)
	if end {
		flags = http2.FlagHeadersEndStream
	}
	if length <= maxFrame {
		appendFrameHeader(b[:from], length, http2.FrameHeaders, flags|http2.FlagHeadersEndHeaders, stream)
		return b
	}
	block := append([]byte(nil), b[from+frameHeader:]...)
	b = b[:from]
	kind := http2.FrameHeaders
	for len(block) > maxFrame {
		b = append(appendFrameHeader(b, maxFrame, kind, flags, stream), block[:maxFrame]...)
		block, kind, flags = block[maxFrame:], http2.FrameContinuation, 0
	}
	b = appendFrameHeader(b, len(block), kind, flags|http2.FlagHeadersEndHeaders, stream)
	return append(b, block...)
}
