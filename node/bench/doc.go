// Package bench makes load for any server of the OpenAI API and measures how it answers: time to the first token, gaps
// between tokens, whole answers, tokens a second, errors by kind.
//
// A closed loop keeps a number of requests running; an open loop starts them at times that do not depend on the answers,
// and counts latency from those times, so that a server that stalls cannot hide the requests that should have come
// meanwhile (coordinated omission). Nothing is ever retried: what fails is counted.
//
// Prompts are random words from a seed, so that no cache helps by accident, and equal seeds give equal prompts to every
// server. What a server sends is bounded before it is kept.
package bench
