//go:build race

package peer

// raceDetector: pools drop what they are given at random.
const raceDetector = true
