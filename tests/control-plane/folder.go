package main

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	adminKubeconfig       = "kubeconfig"
	controllersKubeconfig = "controllers.kubeconfig"
	portFile              = "port"
)

// folder is the place of all state. Its port is chosen once, so that a kubeconfig outlives a restart.
type folder struct {
	root string
	port int
}

func (f folder) path(name string) string { return filepath.Join(f.root, name) }

func (f folder) remove() {
	if err := os.RemoveAll(f.root); err != nil {
		fmt.Fprintln(os.Stderr, "control-plane: the data folder stays:", err)
	}
}

// openFolder makes the folder on first use. It refuses a folder of somebody else, which --ephemeral would remove.
func openFolder(root string) (folder, error) {
	if err := os.MkdirAll(root, 0o700); err != nil {
		return folder{}, err
	}
	// etcd's socket has a name relative to here: the path of a unix socket may not exceed 107 bytes, that of a folder may.
	if err := os.Chdir(root); err != nil {
		return folder{}, err
	}
	f := folder{root: root}
	if err := f.lock(); err != nil {
		return f, err
	}
	port, err := os.ReadFile(portFile)
	if errors.Is(err, fs.ErrNotExist) {
		return f, f.initialise()
	}
	if err != nil {
		return f, err
	}
	f.port, err = strconv.Atoi(strings.TrimSpace(string(port)))
	return f, err
}

// lock keeps two processes out of one folder. After a SIGKILL the kernel frees it with the process, hence a short patience.
func (f folder) lock() error {
	file, err := os.OpenFile(f.path(".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	for range 50 {
		if err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err == nil {
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return fmt.Errorf("%s is in use by another control plane: %w", f.root, err)
}

func (f *folder) initialise() error {
	entries, err := os.ReadDir(f.root)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		// A log beside our state is the one thing a caller may have put there before us.
		if name := entry.Name(); name != ".lock" && name != "pki" && filepath.Ext(name) != ".kubeconfig" &&
			name != adminKubeconfig && filepath.Ext(name) != ".log" {
			return fmt.Errorf("%s is not empty (%s) and not a control plane's folder", f.root, name)
		}
	}
	if f.port, err = freePort(); err != nil {
		return err
	}
	if err := writeIdentities(*f); err != nil {
		return err
	}
	// Written last: a folder with a port is complete.
	return os.WriteFile(f.path(portFile), []byte(strconv.Itoa(f.port)), 0o600)
}

// freePort looks below the range from which the kernel takes the ports of outgoing connections (32768 and above on Linux):
// one of those could sit on ours between a kill and the restart.
func freePort() (int, error) {
	var last error
	for range 100 {
		port := 20000 + rand.IntN(12000)
		listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			return port, listener.Close()
		}
		last = err
	}
	return 0, last
}
