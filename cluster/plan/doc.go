// Package plan decides which node holds which layers: a pure function from the agreed state and the live nodes
// to the commands that would improve the placement. Equal input gives equal output; an empty result means that
// nothing needs to be done.
//
// A model goes to one node if one has the room, for every hop costs time. If none has, it is cut into as few
// stages as possible, so that the slowest stage, with the hop to it, is as fast as possible. Under load it gets more
// replicas, or more stages where those give more. What is placed moves only if a node is lost, an operator asks for something
// else, or what was measured promises enough.
package plan
