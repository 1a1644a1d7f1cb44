package main

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"lamina/node/api"
)

// byteSize is a number of bytes as people write it: 1500000000, 512MB, 8GiB, 1.5g.
type byteSize int64

// units by their names in lower case. Decimal and binary ones are told apart as the standard does (IEC 80000-13).
var units = []struct {
	name  string
	bytes float64
}{
	{"kib", 1 << 10}, {"mib", 1 << 20}, {"gib", 1 << 30}, {"tib", 1 << 40},
	{"kb", 1e3}, {"mb", 1e6}, {"gb", 1e9}, {"tb", 1e12},
	{"k", 1e3}, {"m", 1e6}, {"g", 1e9}, {"t", 1e12}, {"b", 1}, {"", 1},
}

// UnmarshalText reads a size.
func (b *byteSize) UnmarshalText(text []byte) error {
	s := strings.ToLower(strings.TrimSpace(string(text)))
	for _, u := range units {
		num, ok := strings.CutSuffix(s, u.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseFloat(strings.TrimSpace(num), 64)
		if err != nil || !(n >= 0) || n*u.bytes > math.MaxInt64/2 {
			break
		}
		*b = byteSize(n * u.bytes)
		return nil
	}
	return fmt.Errorf("%q is no size; write bytes, or as 512MB or 8GiB", text)
}

// size writes a number of bytes for people.
func size(n int64) string {
	f, names := float64(n), []string{"B", "kB", "MB", "GB", "TB"}
	i := 0
	for i < len(names)-1 && f >= 999.5 {
		f, i = f/1000, i+1
	}
	if i == 0 || f >= 99.95 {
		return fmt.Sprintf("%.0f %s", f, names[i])
	}
	return fmt.Sprintf("%.1f %s", f, names[i])
}

// ago writes how long something has been.
func ago(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%d ms ago", d.Milliseconds())
	case d < 2*time.Minute:
		return fmt.Sprintf("%.0f s ago", d.Seconds())
	case d < 2*time.Hour:
		return fmt.Sprintf("%.0f min ago", d.Minutes())
	}
	return fmt.Sprintf("%.0f h ago", d.Hours())
}

// hops writes a replica as the header Lamina-Route does; what is not loaded yet is marked while others are.
func hops(r api.Replica) string {
	parts := make([]string, len(r.Hops))
	for i, h := range r.Hops {
		parts[i] = fmt.Sprintf("%s[%d:%d]", h.Node, h.First, h.End)
		if r.Phase == "loading" && !h.Ready {
			parts[i] += "..."
		}
	}
	return strings.Join(parts, " ")
}

// standbys names the nodes that keep a replica's parts beside those that run it, hop by hop.
func standbys(r api.Replica) string {
	parts := make([]string, len(r.Hops))
	for i, h := range r.Hops {
		parts[i] = cmp.Or(h.Standby, "none")
	}
	return strings.Join(parts, " ")
}

// table prints rows in columns.
type table struct{ w *tabwriter.Writer }

func newTable(w io.Writer, head ...string) table {
	t := table{tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)}
	if len(head) > 0 {
		fmt.Fprintln(t.w, strings.Join(head, "\t"))
	}
	return t
}

func (t table) row(cells ...any) {
	for i, c := range cells {
		if i > 0 {
			fmt.Fprint(t.w, "\t")
		}
		fmt.Fprint(t.w, c)
	}
	fmt.Fprintln(t.w)
}

func (t table) flush() error { return t.w.Flush() }
