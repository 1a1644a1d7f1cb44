// Package plan decides which node holds which layers: a pure function from the agreed state and the live nodes
// to the commands that would improve the placement. Equal input gives equal output; an empty result means that
// nothing needs to be done.
//
// A model goes to one node if one has the room, for every hop costs time. If none has, it is cut into as few
// stages as possible, so that the slowest stage is as fast as possible. What is placed stays where it is until a
// node is lost or an operator asks for something else.
package plan
