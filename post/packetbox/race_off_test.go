//go:build !race

package packetbox

const raceDetector = false
