package main

import (
	"errors"
	"io"
	"net/url"
	"os"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"google.golang.org/grpc/grpclog"
)

// etcdSocket is in the working directory, which is the data folder: no port to find, and nobody else can open it.
const etcdSocket = "etcd.sock"

func startEtcd() (*embed.Etcd, error) {
	// The API server drops a connection per kind while it starts, and gRPC warns of each.
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, os.Stderr))
	config := embed.NewConfig()
	config.Dir = "etcd"
	config.LogLevel = "error"
	config.LogOutputs = []string{"stderr"}
	config.ListenClientUrls = []url.URL{{Scheme: "unix", Host: etcdSocket}}
	config.ListenPeerUrls = nil
	config.EnableGRPCGateway = false
	// A killed process loses nothing by this, only a killed kernel does.
	config.UnsafeNoFsync = true
	// Alone it has nobody to wait for in an election.
	config.TickMs = 20
	config.ElectionMs = 200

	etcd, err := embed.StartEtcd(config)
	if err != nil {
		return nil, err
	}
	select {
	case <-etcd.Server.ReadyNotify():
		return etcd, nil
	case err := <-etcd.Err():
		return nil, err
	case <-time.After(30 * time.Second):
		etcd.Close()
		return nil, errors.New("not ready after 30 s")
	}
}
