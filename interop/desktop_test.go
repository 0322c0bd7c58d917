package interop

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// The size of a virtual display.
const displayWidth, displayHeight = 1280, 900

// virtualDisplay starts an X server without a screen, and gives its name.
func virtualDisplay(t testing.TB) string {
	t.Helper()
	xvfb := needTool(t, "Xvfb")
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	x := exec.Command(xvfb, "-displayfd", "3", "-screen", "0", fmt.Sprintf("%dx%dx24", displayWidth, displayHeight), "-nolisten", "tcp")
	x.ExtraFiles = []*os.File{write}
	tie(x)
	if err := x.Start(); err != nil {
		t.Fatal(err)
	}
	write.Close()
	t.Cleanup(func() { _ = x.Process.Kill(); _ = x.Wait() })
	number, err := bufio.NewReader(read).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return ":" + strings.TrimSpace(number)
}

// desktop is a display with a mouse and a keyboard, for what browsers show outside of pages: menus, shortcuts, questions.
type desktop struct {
	t       testing.TB
	display string
	xdotool string
}

func newDesktop(t testing.TB) *desktop {
	t.Helper()
	return &desktop{t: t, xdotool: needTool(t, "xdotool"), display: virtualDisplay(t)}
}

func (d *desktop) do(args ...string) string {
	d.t.Helper()
	cmd := exec.Command(d.xdotool, args...)
	cmd.Env = append(os.Environ(), "DISPLAY="+d.display)
	out, err := cmd.CombinedOutput()
	if err != nil {
		d.t.Fatalf("xdotool %v: %v\n%s", args, err, out)
	}
	return string(out)
}

// focus gives a program's window the keyboard, as a window manager would. Without one the window under the pointer has it, and
// a menu takes it from the window that it belongs to.
func (d *desktop) focus(class string) {
	d.t.Helper()
	d.do("search", "--sync", "--onlyvisible", "--class", class, "windowfocus")
}

// click presses a button of the mouse (1 is the left one, 3 the right one) at a place of the screen.
func (d *desktop) click(x, y float64, button int) {
	d.t.Helper()
	d.do("mousemove", fmt.Sprint(int(x)), fmt.Sprint(int(y)), "click", fmt.Sprint(button))
}

// key presses keys one after another, with the names of X: "Up", "Return", "alt+shift+f".
func (d *desktop) key(names ...string) {
	d.t.Helper()
	d.do(append([]string{"key"}, names...)...)
}

// windows counts what is on the screen: menus and questions are windows, too.
func (d *desktop) windows() int {
	d.t.Helper()
	return len(strings.Fields(d.do("search", "--onlyvisible", "--name", ".*")))
}

// dimmed tells whether the ground of a page, which is white, is darker since its browser asks something before all else.
func (d *desktop) dimmed() bool {
	d.t.Helper()
	const x, y = 12, 700
	screen := d.capture("rgb:-") // three bytes a point
	at := 3 * (y*displayWidth + x)
	return len(screen) > at && screen[at] < 200
}

// capture takes a picture of the screen, in a format of ImageMagick.
func (d *desktop) capture(to string) []byte {
	d.t.Helper()
	cmd := exec.Command(needTool(d.t, "import"), "-window", "root", "-depth", "8", to)
	cmd.Env = append(os.Environ(), "DISPLAY="+d.display)
	out, err := cmd.Output()
	if err != nil {
		d.t.Fatal(err)
	}
	return out
}

// picture keeps a picture of the screen, if POSTERN_SCREENSHOTS says where.
func (d *desktop) picture(name string) {
	d.t.Helper()
	pictureOf(d.t, name, func(path string) { d.capture(path) })
}
