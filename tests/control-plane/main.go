// Command control-plane is a real Kubernetes control plane for tests and the demo, in one process and without containers:
// etcd, kube-apiserver, and those controllers without which an API server does not behave like a cluster.
//
// All state is in one folder, so that it can be killed at any moment and started again on the same port with every object still
// there. It serves on loopback only. When it is ready it prints the one line "ready" to stdout; its logs go to stderr.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
)

// stopGrace bounds etcd's orderly end, which it does not need: a SIGKILL loses nothing either.
const stopGrace = 2 * time.Second

type settings struct {
	data      string
	auditLog  string
	detach    bool
	ephemeral bool
}

func main() {
	settings, err := parse()
	if err == nil {
		err = run(settings)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "control-plane:", err)
		os.Exit(1)
	}
}

func parse() (settings, error) {
	var s settings
	flag.StringVar(&s.data, "data", "", "folder that holds all state: keys, kubeconfig, etcd's data")
	flag.StringVar(&s.auditLog, "audit-log", "", "file that gets one line of JSON per request (level Metadata)")
	flag.BoolVar(&s.detach, "detach", false, "live on when stdin ends")
	flag.BoolVar(&s.ephemeral, "ephemeral", false, "remove the data folder at the end")
	flag.Parse()
	if s.data == "" || flag.NArg() > 0 {
		return s, errors.New("usage: control-plane --data DIR [--audit-log FILE] [--detach] [--ephemeral]")
	}
	var err error
	if s.data, err = filepath.Abs(s.data); err != nil {
		return s, err
	}
	if s.auditLog != "" {
		s.auditLog, err = filepath.Abs(s.auditLog)
	}
	return s, err
}

func run(s settings) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if !s.detach {
		go stopAtEndOf(os.Stdin, stop)
	}
	rest.SetDefaultWarningHandler(rest.NoWarnings{})

	data, err := openFolder(s.data)
	if err != nil {
		return err
	}
	etcd, err := startEtcd()
	if err != nil {
		return fmt.Errorf("etcd: %w", err)
	}
	ctx, fail := context.WithCancelCause(ctx)
	go func() { fail(runAPIServer(data, s.auditLog)) }()
	go func() {
		if err := startControllersOf(ctx, data); err != nil {
			fail(err)
		} else {
			fmt.Println("ready")
		}
	}()
	<-ctx.Done()

	end(etcd, data, s.ephemeral)
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

func startControllersOf(ctx context.Context, data folder) error {
	config, err := clientcmd.BuildConfigFromFlags("", data.path(controllersKubeconfig))
	if err != nil {
		return err
	}
	return startControllers(ctx, config)
}

// stopAtEndOf ends us when the process that started us is gone, however it went: the kernel closes its end of the pipe.
func stopAtEndOf(stdin io.Reader, stop func()) {
	_, _ = io.Copy(io.Discard, stdin)
	stop()
}

// end stops etcd alone. An orderly end of the API server takes a second or a minute, depending on its clients, and one in the
// middle of its start makes it call os.Exit; with the process it goes in any case.
func end(etcd *embed.Etcd, data folder, ephemeral bool) {
	klog.OsExit = func(int) { select {} }
	done := make(chan struct{})
	go func() { etcd.Server.HardStop(); close(done) }()
	select {
	case <-done:
	case <-time.After(stopGrace):
		klog.Info("etcd did not end in time; its data is safe on disk all the same")
	}
	if ephemeral {
		data.remove()
	}
}
