package jinja

import "unsafe"

// Templates build a conversation by adding to a text message after message. Were
// each sum a copy, a conversation of n messages would cost n² bytes. So the
// longest sums keep room behind their end, and adding to one writes there, as
// CPython does. A string never sees the bytes behind its own end, and only the
// string that ends where the used part of the room ends may be added to in place:
// no byte of any string is ever written twice.

const (
	// minTail is the length from which a sum keeps room.
	minTail = 1 << 10
	// tailCount is how many texts can grow in turn without a copy.
	tailCount = 4
)

// tails are the rooms of the latest long sums of a render.
type tails struct {
	rooms [tailCount][]byte
	next  int // the room to give up first
}

// concat returns x + y.
func (r *run) concat(x, y string) (string, error) {
	if y == "" {
		return x, nil
	}
	if err := r.step(len(y) >> 8); err != nil {
		return "", err
	}
	n := len(x) + len(y)
	if n < minTail {
		if err := r.alloc(int64(n)); err != nil {
			return "", err
		}
		return x + y, nil
	}
	at := -1
	for i, room := range r.tails.rooms {
		if len(room) == len(x) && unsafe.SliceData(room) == unsafe.StringData(x) {
			at = i
			break
		}
	}
	room := []byte(nil)
	if at >= 0 {
		room = r.tails.rooms[at]
	} else {
		at = r.tails.next
		r.tails.next = (at + 1) % tailCount
	}
	if cap(room)-len(room) < len(y) {
		// A text that grows for the first time gets no spare room: most do not grow.
		spare := 0
		if len(room) > 0 {
			spare = n
		}
		if err := r.alloc(int64(n + spare)); err != nil {
			return "", err
		}
		room = append(make([]byte, 0, n+spare), x...)
	}
	room = append(room, y...)
	r.tails.rooms[at] = room
	return unsafe.String(unsafe.SliceData(room), n), nil
}
