package main

import (
	"context"
	"fmt"
	"net/http"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/controller-manager/pkg/informerfactory"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/controller/clusterroleaggregation"
	"k8s.io/kubernetes/pkg/controller/garbagecollector"
	"k8s.io/kubernetes/pkg/controller/namespace"
	"k8s.io/kubernetes/pkg/controller/serviceaccount"
)

const (
	resync  = 12 * time.Hour
	workers = 4
	// kindsPeriod is how soon the garbage collector learns of a new CRD. The controller manager's 30 s are no time for a test.
	kindsPeriod  = time.Second
	startTimeout = 2 * time.Minute
	look         = 20 * time.Millisecond
)

// controllers are the few that make an API server behave like a cluster: they empty deleted namespaces, collect what lost its
// owner, give every namespace its ServiceAccount, and fill the ClusterRoles admin, edit and view.
type controllers struct {
	client   kubernetes.Interface
	metadata metadata.Interface
	shared   informers.SharedInformerFactory
	garbage  *garbagecollector.GarbageCollector
}

// startControllers returns when the API server is ready and every controller has seen what there is.
func startControllers(ctx context.Context, config *rest.Config) error {
	config.QPS = -1 // not limited: the server is ours alone, and slow cleaning makes slow tests
	c, err := connect(config)
	if err != nil {
		return err
	}
	if err := until(ctx, "the API server to be ready", c.serverReady); err != nil {
		return err
	}
	if err := c.start(ctx); err != nil {
		return err
	}
	return until(ctx, "the controllers to have synced", c.synced)
}

func connect(config *rest.Config) (*controllers, error) {
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	metadata, err := metadata.NewForConfig(config)
	return &controllers{client: client, metadata: metadata, shared: informers.NewSharedInformerFactory(client, resync)}, err
}

func (c *controllers) start(ctx context.Context) error {
	namespaces := namespace.NewNamespaceController(ctx, c.client, c.metadata, c.client.Discovery().ServerPreferredNamespacedResources,
		c.shared.Core().V1().Namespaces(), resync, corev1.FinalizerKubernetes)
	accounts, err := serviceaccount.NewServiceAccountsController(klog.FromContext(ctx), c.shared.Core().V1().ServiceAccounts(),
		c.shared.Core().V1().Namespaces(), c.client, serviceaccount.DefaultServiceAccountsControllerOptions())
	if err != nil {
		return err
	}
	roles := clusterroleaggregation.NewClusterRoleAggregation(c.shared.Rbac().V1().ClusterRoles(), c.client.RbacV1())
	if err := c.startGarbageCollector(ctx); err != nil {
		return err
	}
	go namespaces.Run(ctx, workers)
	go accounts.Run(ctx, workers)
	go roles.Run(ctx, workers)
	c.shared.Start(ctx.Done())
	return nil
}

func (c *controllers) startGarbageCollector(ctx context.Context) error {
	mapper := restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(c.client.Discovery()))
	both := informerfactory.NewInformerFactory(c.shared, metadatainformer.NewSharedInformerFactory(c.metadata, resync))
	started := make(chan struct{})
	close(started) // it starts its own informers as it finds kinds; the shared ones start a moment later
	var err error
	c.garbage, err = garbagecollector.NewGarbageCollector(ctx, c.client, c.metadata, mapper,
		garbagecollector.DefaultIgnoredResources(), both, started)
	if err != nil {
		return err
	}
	go c.garbage.Run(ctx, workers, startTimeout)
	go c.garbage.Sync(ctx, c.client.Discovery(), kindsPeriod)
	return nil
}

func (c *controllers) serverReady(ctx context.Context) bool {
	var status int
	c.client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).StatusCode(&status)
	return status == http.StatusOK
}

// synced asks for what a test may take for granted: the namespace default with its ServiceAccount, filled roles, the collector
// knowing every kind.
func (c *controllers) synced(ctx context.Context) bool {
	if _, err := c.client.CoreV1().ServiceAccounts(metav1.NamespaceDefault).Get(ctx, "default", metav1.GetOptions{}); err != nil {
		return false
	}
	admin, err := c.client.RbacV1().ClusterRoles().Get(ctx, "admin", metav1.GetOptions{})
	return err == nil && len(admin.Rules) > 0 && c.garbage.IsSynced(klog.FromContext(ctx))
}

func until(ctx context.Context, what string, condition func(context.Context) bool) error {
	err := wait.PollUntilContextTimeout(ctx, look, startTimeout, true, func(ctx context.Context) (bool, error) {
		return condition(ctx), nil
	})
	if err != nil {
		return fmt.Errorf("waited for %s: %w", what, err)
	}
	return nil
}
