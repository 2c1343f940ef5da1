//go:build !linux

package doctor

import "errors"

var errOnlyLinux = errors.New("this is known on Linux only")

func (thisKernel) Cores() int { return goCores() }

func (thisKernel) Inotify(int) (int, error) { return 0, errOnlyLinux }

func (thisKernel) Limit(Resource) (uint64, error) { return 0, errOnlyLinux }

func (thisKernel) Disk(string) (Disk, error) { return Disk{}, errOnlyLinux }
