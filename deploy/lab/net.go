package lab

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"strings"
)

// Net is a number of hosts, each in a namespace, joined by a router in another; this process is joined to it too. Host i, from 1,
// has the address 10.77.i.1. One Net is there at a time on a machine.
type Net struct {
	hosts  int
	cmd    *exec.Cmd // the router's process
	orders io.WriteCloser
	done   *bufio.Reader
	cuts   map[[2]int]bool
	lines  map[[2]int]bool
}

const (
	routerSpace = "lam-router"
	tunDevice   = "lamtun"
	tunTable    = "77"
)

func space(i int) string { return fmt.Sprintf("lam-n%d", i) }

// Addr is the address of a host.
func Addr(i int) string { return fmt.Sprintf("10.77.%d.1", i) }

// ip runs iproute2.
func ip(args ...string) error {
	out, err := exec.Command("ip", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

// RouterEnv set to a seed makes a process of this program the router: see Main.
const RouterEnv = "LAMINA_LAB_ROUTER"

// NewNet makes the namespaces. self is the program that calls RunRouter when RouterEnv is set. Close takes all away again.
func NewNet(hosts int, seed uint64, self string) (_ *Net, err error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("the lab needs root for its namespaces")
	}
	n := &Net{hosts: hosts, cuts: map[[2]int]bool{}, lines: map[[2]int]bool{}}
	n.sweep() // of a lab that was killed
	defer func() {
		if err != nil {
			_ = n.Close()
		}
	}()
	if err := ip("netns", "add", routerSpace); err != nil {
		return nil, err
	}
	if err := n.inRouter("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward; for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 0 > $f; done"); err != nil {
		return nil, err
	}
	if err := n.startRouter(seed, self); err != nil {
		return nil, err
	}
	for i := range hosts + 1 { // 0 is this process's own
		if err := n.join(i); err != nil {
			return nil, err
		}
	}
	return n, nil
}

func (n *Net) inRouter(args ...string) error {
	out, err := exec.Command("ip", append([]string{"netns", "exec", routerSpace}, args...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

// join connects a host to the router.
func (n *Net) join(i int) error {
	inner, outer, gateway := "eth0", fmt.Sprintf("lam%d", i), fmt.Sprintf("10.77.%d.254", i)
	where := []string{"-n", space(i)}
	if i == 0 {
		inner, where = "lam0", nil
		outer = "lamroot"
	} else if err := ip("netns", "add", space(i)); err != nil {
		return err
	}
	peer := []string{"link", "add", outer, "netns", routerSpace, "type", "veth", "peer", "name", inner}
	if i > 0 {
		peer = append(peer, "netns", space(i))
	}
	steps := [][]string{
		peer,
		{"-n", routerSpace, "addr", "add", gateway + "/24", "dev", outer},
		{"-n", routerSpace, "link", "set", outer, "up"},
		append(where[:len(where):len(where)], "addr", "add", Addr(i)+"/24", "dev", inner),
		append(where[:len(where):len(where)], "link", "set", inner, "up"),
	}
	if i > 0 {
		steps = append(steps, []string{"-n", space(i), "link", "set", "lo", "up"}, []string{"-n", space(i), "route", "add", "default", "via", gateway})
	} else {
		steps = append(steps, []string{"route", "add", "10.77.0.0/16", "via", gateway})
	}
	for _, s := range steps {
		if err := ip(s...); err != nil {
			return err
		}
	}
	return nil
}

func (n *Net) startRouter(seed uint64, self string) error {
	n.cmd = exec.Command("ip", "netns", "exec", routerSpace, self)
	n.cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d", RouterEnv, seed))
	n.cmd.Stderr = os.Stderr
	var err error
	if n.orders, err = n.cmd.StdinPipe(); err != nil {
		return err
	}
	out, err := n.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := n.cmd.Start(); err != nil {
		return err
	}
	n.done = bufio.NewReader(out)
	if err := n.order(order{}); err != nil { // it has made its device now
		return fmt.Errorf("the router's process: %w", err)
	}
	for _, args := range [][]string{{"link", "set", tunDevice, "up"}, {"route", "add", "default", "dev", tunDevice, "table", tunTable}} {
		if err := ip(append([]string{"-n", routerSpace}, args...)...); err != nil {
			return err
		}
	}
	return nil
}

func (n *Net) order(o order) error {
	data, err := json.Marshal(o)
	if err != nil {
		return err
	}
	if _, err := n.orders.Write(append(data, '\n')); err != nil {
		return err
	}
	_, err = n.done.ReadString('\n')
	return err
}

// Cut drops all packets from one host to another, silently, or lets them through again.
func (n *Net) Cut(from, to int, cut bool) error {
	if n.cuts[[2]int{from, to}] == cut {
		return nil
	}
	n.cuts[[2]int{from, to}] = cut
	verb := "del"
	if cut {
		verb = "add"
	}
	return ip("-n", routerSpace, "rule", verb, "from", Addr(from), "to", Addr(to), "priority", "10", "blackhole")
}

// Set changes the line from one host to another.
func (n *Net) Set(from, to int, l Line) error {
	on := l != Line{}
	if on {
		if err := n.order(order{octets(from), octets(to), &l}); err != nil {
			return err
		}
	}
	if n.lines[[2]int{from, to}] != on {
		n.lines[[2]int{from, to}] = on
		verb := "del"
		if on {
			verb = "add"
		}
		device := fmt.Sprintf("lam%d", from)
		if from == 0 {
			device = "lamroot"
		}
		// Only what comes from the host itself: what comes back from the TUN device goes on its way.
		if err := ip("-n", routerSpace, "rule", verb, "from", Addr(from), "to", Addr(to), "iif", device, "priority", "20", "lookup", tunTable); err != nil {
			return err
		}
	}
	if !on {
		return n.order(order{octets(from), octets(to), nil})
	}
	return nil
}

func octets(i int) [4]byte { return netip.MustParseAddr(Addr(i)).As4() }

// Heal takes all cuts and lines away.
func (n *Net) Heal() (err error) {
	for k, cut := range n.cuts {
		if cut {
			err = errors.Join(err, n.Cut(k[0], k[1], false))
		}
	}
	for k, on := range n.lines {
		if on {
			err = errors.Join(err, n.Set(k[0], k[1], Line{}))
		}
	}
	return err
}

// Command prepares a command in a host's namespace. The process is the command itself, so signals reach it.
func (n *Net) Command(i int, name string, args ...string) *exec.Cmd {
	return exec.Command("ip", append([]string{"netns", "exec", space(i), name}, args...)...)
}

// Close ends the router and takes the namespaces away.
func (n *Net) Close() error {
	if n.orders != nil {
		_ = n.orders.Close() // the router ends with its orders
		_ = n.cmd.Wait()
	}
	n.sweep()
	return nil
}

// sweep takes away what is there.
func (n *Net) sweep() {
	_ = ip("link", "del", "lam0") // none of these need be there
	_ = ip("netns", "del", routerSpace)
	for i := 1; i <= 16; i++ {
		_ = ip("netns", "del", space(i))
	}
}
