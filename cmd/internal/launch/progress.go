package launch

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// IsTerminal reports whether f is a terminal, as far as its mode tells: a character device that is not the null device.
func IsTerminal(f *os.File) bool {
	info, err := f.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	null, err := os.Stat(os.DevNull)
	return err != nil || !os.SameFile(info, null)
}

// Terminal returns w if it is a terminal, to show progress on, and else nil.
func Terminal(w io.Writer) io.Writer {
	if f, ok := w.(*os.File); ok && IsTerminal(f) {
		return f
	}
	return nil
}

// A progressBar is one line of a terminal that shows how far loading has come.
type progressBar struct {
	w     io.Writer
	doing string // what takes the time
	start time.Time
	drawn time.Time // when the line was last drawn
}

const (
	barWidth = 30
	redraw   = 50 * time.Millisecond
)

// newProgressBar returns a bar on w. Nothing is drawn before the first update that is a redraw interval old, so that
// quick loads stay quiet.
func newProgressBar(w io.Writer, doing string) *progressBar {
	now := time.Now()
	return &progressBar{w: w, doing: doing, start: now, drawn: now}
}

// update draws the bar for done of total bytes.
func (p *progressBar) update(done, total int64) {
	now := time.Now()
	if now.Sub(p.drawn) < redraw || total == 0 {
		return
	}
	p.drawn = now
	rate := Bytes(float64(done) / now.Sub(p.start).Seconds())
	fmt.Fprintf(p.w, "\r%s\x1b[K", barLine(p.doing, done, total, rate))
}

// barLine returns the line for doing something with done of total bytes at a rate in bytes a second.
func barLine(doing string, done, total int64, rate Bytes) string {
	full := int(barWidth * done / total)
	return fmt.Sprintf("%s [%s%s] %3d %%  %v of %v  %v/s", doing, strings.Repeat("#", full), strings.Repeat(".", barWidth-full),
		100*done/total, Bytes(done), Bytes(total), rate)
}

// finish clears the line if there is one.
func (p *progressBar) finish() {
	if p.drawn != p.start {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}

// A stageBar is one line of a terminal that shows which of several stages is under way, how far it has come, and how long it
// will take.
type stageBar struct {
	w     io.Writer // nil for no line
	stage string
	start time.Time // of the stage
	drawn time.Time
}

func newStageBar(w io.Writer) *stageBar { return &stageBar{w: w} }

// update draws the line for done of total steps of a stage.
func (b *stageBar) update(stage string, done, total int) {
	now := time.Now()
	if stage != b.stage {
		b.stage, b.start = stage, now
	}
	if b.w == nil || now.Sub(b.drawn) < redraw && done < total {
		return
	}
	b.drawn = now
	fmt.Fprintf(b.w, "\r%s\x1b[K", stageLine(stage, done, total, now.Sub(b.start)))
}

// stageLine returns the line for a stage of which done of total steps took so long.
func stageLine(stage string, done, total int, took time.Duration) string {
	full := barWidth * done / max(1, total)
	line := fmt.Sprintf("%s [%s%s] %d of %d", stage, strings.Repeat("#", full), strings.Repeat(".", barWidth-full), done, total)
	if done > 0 && done < total {
		line += fmt.Sprintf(", %v left", (took / time.Duration(done) * time.Duration(total-done)).Round(time.Second))
	}
	return line
}

func (b *stageBar) finish() {
	if b.w != nil && !b.drawn.IsZero() {
		fmt.Fprint(b.w, "\r\x1b[K")
	}
}
