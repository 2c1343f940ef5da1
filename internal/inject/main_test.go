package inject

import (
	"os"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	undoPoll, undoTimeout = time.Millisecond, 20*time.Millisecond
	os.Exit(m.Run())
}
