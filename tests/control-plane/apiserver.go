package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/spf13/pflag"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
	"k8s.io/kubernetes/cmd/kube-apiserver/app/options"
)

const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - level: Metadata
`

// runAPIServer returns only when it fails: the end of the process is its end.
func runAPIServer(f folder, auditLog string) error {
	ctx := context.Background()
	server := options.NewServerRunOptions()
	args, err := arguments(f, auditLog)
	if err != nil {
		return err
	}
	flags := pflag.NewFlagSet("kube-apiserver", pflag.ContinueOnError)
	for _, set := range server.Flags().FlagSets {
		flags.AddFlagSet(set)
	}
	if err := flags.Parse(args); err != nil {
		return err
	}
	if server.SecureServing.Listener, err = listen(f.port); err != nil {
		return err
	}
	if err := server.GenericServerRunOptions.ComponentGlobalsRegistry.Set(); err != nil {
		return err
	}
	completed, err := server.Complete(ctx)
	if err != nil {
		return err
	}
	if errs := completed.Validate(); len(errs) != 0 {
		return utilerrors.NewAggregate(errs)
	}
	return app.Run(ctx, completed)
}

func arguments(f folder, auditLog string) ([]string, error) {
	args := []string{
		"--etcd-servers=unix://" + etcdSocket,
		"--bind-address=127.0.0.1",
		"--advertise-address=127.0.0.1",
		fmt.Sprintf("--secure-port=%d", f.port),
		"--tls-cert-file=pki/server.crt",
		"--tls-private-key-file=pki/server.key",
		"--client-ca-file=pki/ca.crt",
		"--authorization-mode=RBAC",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=pki/tokens.key",
		"--service-account-signing-key-file=pki/tokens.key",
		"--service-cluster-ip-range=10.0.0.0/24",
		// No node ever reaches the API server through its Service, and a loopback address is no valid endpoint.
		"--endpoint-reconciler-type=none",
		"--profiling=false",
		// etcd is in this very process: counting its objects tells nobody anything.
		"--etcd-count-metric-poll-period=0",
		"--etcd-db-metric-poll-interval=0",
	}
	if auditLog == "" {
		return args, nil
	}
	args = append(args, "--audit-log-path="+auditLog, "--audit-policy-file=audit-policy.yaml")
	return args, os.WriteFile(f.path("audit-policy.yaml"), []byte(auditPolicy), 0o600)
}

// listen has patience with the port: a predecessor that was just killed may still hold it.
func listen(port int) (net.Listener, error) {
	var last error
	for range 100 {
		listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			return listener, nil
		}
		last = err
		time.Sleep(50 * time.Millisecond)
	}
	return nil, last
}
