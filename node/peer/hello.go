package peer

import (
	"errors"
	"fmt"
	"time"
)

// The versions of the stage protocol that this release speaks.
const (
	stageVersionMin = 2
	stageVersionMax = 2
)

// maxHello bounds a hello and its answer.
const maxHello = 4 << 10

// hello is the first message on a stage link, from the side that dialled.
type hello struct {
	Min  int    `msgpack:"min"` // versions that are spoken
	Max  int    `msgpack:"max"`
	From string `msgpack:"from"` // who dialled; must be the certificate's name
	To   string `msgpack:"to"`   // who is meant
}

// welcome answers a hello: the version to speak, or why not.
type welcome struct {
	Version int    `msgpack:"version"`
	Refused string `msgpack:"refused,omitempty"`
}

// greet sends a hello and takes the answer.
func greet(c *Conn, self string, timeout time.Duration) error {
	if err := c.SetDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	h := hello{Min: stageVersionMin, Max: stageVersionMax, From: self, To: c.Node}
	if err := writeMessage(c, &h, maxHello); err != nil {
		return err
	}
	var w welcome
	if err := readMessage(c, &w, maxHello); err != nil {
		return err
	}
	if w.Refused != "" {
		return fmt.Errorf("%w: node %s refuses the link: %.200s", ErrProtocol, c.Node, w.Refused)
	}
	if w.Version < stageVersionMin || w.Version > stageVersionMax {
		return fmt.Errorf("%w: node %s answers with version %d", ErrProtocol, c.Node, w.Version)
	}
	return c.SetDeadline(time.Time{})
}

// receiveHello takes a hello and returns the version to answer with; one that is refused is answered.
func receiveHello(c *Conn, self string, timeout time.Duration) (version int, err error) {
	if err := c.SetDeadline(time.Now().Add(timeout)); err != nil {
		return 0, err
	}
	var h hello
	if err := readMessage(c, &h, maxHello); err != nil {
		return 0, err
	}
	if why := h.check(c.Node, self); why != "" {
		refused := fmt.Errorf("%w: hello: %s", ErrProtocol, why)
		return 0, errors.Join(refused, writeMessage(c, &welcome{Refused: why}, maxHello))
	}
	return min(h.Max, stageVersionMax), nil
}

// answerHello welcomes the other side.
func answerHello(c *Conn, version int) error {
	if err := writeMessage(c, &welcome{Version: version}, maxHello); err != nil {
		return err
	}
	return c.SetDeadline(time.Time{})
}

// check says what is wrong with a hello, if anything. node is who the certificate says it is.
func (h hello) check(node, self string) string {
	switch {
	case h.From != node:
		return fmt.Sprintf("the hello says node %.64q, the certificate node %s", h.From, node)
	case h.To != self:
		return fmt.Sprintf("the hello is for node %.64q, this is node %s", h.To, self)
	case h.Min > stageVersionMax || h.Max < stageVersionMin || h.Min > h.Max:
		return fmt.Sprintf("it speaks versions %d to %d of the stage protocol, this node %d to %d", h.Min, h.Max, stageVersionMin, stageVersionMax)
	case h.From == h.To:
		return "a node does not link to itself"
	}
	return ""
}
