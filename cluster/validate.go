package cluster

import (
	"fmt"
	"time"
)

// maxText bounds addresses, versions, ids and notes, in bytes.
const maxText = 256

// maxReasonIn bounds a reason on its way in; what is kept is shorter.
const maxReasonIn = 16 << 10

// Validate implements Command.
func (c MemberUp) Validate() error {
	m := c.Member
	if m.Incarnation == 0 {
		return fmt.Errorf("%w: incarnation of node %s is 0", ErrInvalid, m.ID)
	}
	return all(CheckNodeID(m.ID), at(c.At), text("peer address", m.Peer, 1), text("http address", m.HTTP, 0), text("version", m.Version, 0))
}

// Validate implements Command.
func (c MemberDown) Validate() error { return all(CheckNodeID(c.Node), at(c.At)) }

// Validate implements Command.
func (c RemoveMember) Validate() error { return all(CheckNodeID(c.Node), at(c.At)) }

// Validate implements Command.
func (c DrainNode) Validate() error { return all(CheckNodeID(c.Node), at(c.At)) }

// Validate implements Command.
func (c AddModel) Validate() error {
	if c.Model.Origin != "" {
		if err := CheckNodeID(c.Model.Origin); err != nil {
			return err
		}
	}
	return all(c.Model.Validate(), at(c.At))
}

// Validate implements Command.
func (c RemoveModel) Validate() error { return all(CheckModelName(c.Name), at(c.At)) }

// Validate implements Command: the hops are in layer order from layer 0 without gap or overlap, each on a
// node of its own. That they end at the last layer is checked when the model is known.
func (c Place) Validate() error {
	if err := all(digest("model", c.Model), at(c.At), reason(c.Reason)); err != nil {
		return err
	}
	if len(c.Hops) == 0 || len(c.Hops) > maxMembers {
		return fmt.Errorf("%w: placement with %d hops", ErrInvalid, len(c.Hops))
	}
	next, seen := 0, make(map[NodeID]bool, len(c.Hops))
	for i, h := range c.Hops {
		if err := CheckNodeID(h.Node); err != nil {
			return err
		}
		if h.First != next || h.End <= h.First || h.End > maxLayers {
			return fmt.Errorf("%w: hop %d covers layers %d to %d, expected to start at %d", ErrInvalid, i, h.First, h.End, next)
		}
		if seen[h.Node] {
			return fmt.Errorf("%w: node %s has two hops in one placement", ErrInvalid, h.Node)
		}
		next, seen[h.Node] = h.End, true
	}
	return nil
}

// Validate implements Command.
func (c HopReady) Validate() error { return all(CheckNodeID(c.Node), at(c.At)) }

// Validate implements Command.
func (c HopFailed) Validate() error { return all(CheckNodeID(c.Node), at(c.At), reason(c.Reason)) }

// Validate implements Command.
func (c Drain) Validate() error { return all(at(c.At), reason(c.Reason)) }

// Validate implements Command.
func (c Drop) Validate() error { return all(at(c.At), reason(c.Reason)) }

// Validate implements Command.
func (c AddToken) Validate() error {
	if err := all(digest("token hash", c.Hash), at(c.At), at(c.Expires)); err != nil {
		return err
	}
	if !c.Expires.After(c.At) {
		return fmt.Errorf("%w: join token expires before it is made", ErrInvalid)
	}
	return nil
}

// Validate implements Command.
func (c UseToken) Validate() error {
	return all(digest("token hash", c.Hash), CheckNodeID(c.Node), at(c.At))
}

// Validate implements Command.
func (c AddKey) Validate() error {
	if c.Key.Role != Admin && c.Key.Role != User {
		return fmt.Errorf("%w: role %.40q of key %.40q: use %q or %q", ErrInvalid, c.Key.Role, c.Key.ID, Admin, User)
	}
	return all(keyID(c.Key.ID), digest("key hash", c.Key.Hash), text("note", c.Key.Note, 0), at(c.At))
}

// Validate implements Command.
func (c RemoveKey) Validate() error { return all(keyID(c.ID), at(c.At)) }

// Validate implements Command.
func (c SetSettings) Validate() error {
	return all(text("cluster id", c.Settings.ClusterID, 1), digest("CA pin", c.Settings.CAPin), at(c.At))
}

// all returns the first error.
func all(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// at checks the time of a command: one that JSON can hold.
func at(t time.Time) error {
	if y := t.Year(); y < 1970 || y > 9998 {
		return fmt.Errorf("%w: time of the command is in the year %d", ErrInvalid, y)
	}
	return nil
}

// text checks printable ASCII of at least min bytes.
func text(what, s string, min int) error {
	bad := len(s) < min || len(s) > maxText
	for i := 0; i < len(s) && !bad; i++ {
		bad = s[i] < ' ' || s[i] > '~'
	}
	if bad {
		return fmt.Errorf("%w: %s %.80q: use %d to %d printable ASCII characters", ErrInvalid, what, s, min, maxText)
	}
	return nil
}

func digest(what, s string) error {
	if !isDigest(s) {
		return fmt.Errorf("%w: %s %.80q is not sha256: and 64 lower-case hex digits", ErrInvalid, what, s)
	}
	return nil
}

func keyID(id string) error {
	bad := id == "" || len(id) > 32
	for i := 0; i < len(id) && !bad; i++ {
		bad = !isAlnum(id[i])
	}
	if bad {
		return fmt.Errorf("%w: key id %.40q: use 1 to 32 letters and digits", ErrInvalid, id)
	}
	return nil
}

func reason(s string) error {
	if len(s) > maxReasonIn {
		return fmt.Errorf("%w: reason of %d bytes, at most %d", ErrInvalid, len(s), maxReasonIn)
	}
	return nil
}
