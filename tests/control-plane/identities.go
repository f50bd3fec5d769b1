package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

const tenYears = 10 * 365 * 24 * time.Hour

// authority signs with a key that is never written down: nobody needs it after the first start.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

type pair struct{ certificate, key []byte }

// writeIdentities makes a CA of its own, the server's certificate, the key of ServiceAccount tokens, and two administrators:
// one for the user and one for the controllers, so that an audit log tells them apart.
func writeIdentities(f folder) error {
	ca, err := newAuthority()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(f.path("pki"), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(f.path("pki/ca.crt"), encode("CERTIFICATE", ca.certificate.Raw), 0o600); err != nil {
		return err
	}
	if err := ca.writeServer(f); err != nil {
		return err
	}
	if err := writeTokenKey(f); err != nil {
		return err
	}
	if err := ca.writeKubeconfig(f, "system:kube-controller-manager", controllersKubeconfig); err != nil {
		return err
	}
	return ca.writeKubeconfig(f, "admin", adminKubeconfig)
}

func newAuthority() (authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return authority{}, err
	}
	template := template(pkix.Name{CommonName: "control-plane"})
	template.IsCA = true
	template.KeyUsage |= x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return authority{}, err
	}
	certificate, err := x509.ParseCertificate(der)
	return authority{certificate, key}, err
}

func (a authority) writeServer(f folder) error {
	template := template(pkix.Name{CommonName: "kube-apiserver"})
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	template.DNSNames = []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"}
	pair, err := a.issue(template)
	if err != nil {
		return err
	}
	if err := os.WriteFile(f.path("pki/server.crt"), pair.certificate, 0o600); err != nil {
		return err
	}
	return os.WriteFile(f.path("pki/server.key"), pair.key, 0o600)
}

func (a authority) writeKubeconfig(f folder, user, name string) error {
	template := template(pkix.Name{CommonName: user, Organization: []string{"system:masters"}})
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	pair, err := a.issue(template)
	if err != nil {
		return err
	}
	const cluster = "control-plane"
	config := clientcmdapi.NewConfig()
	config.Clusters[cluster] = &clientcmdapi.Cluster{
		Server:                   fmt.Sprintf("https://127.0.0.1:%d", f.port),
		CertificateAuthorityData: encode("CERTIFICATE", a.certificate.Raw),
	}
	config.AuthInfos[user] = &clientcmdapi.AuthInfo{ClientCertificateData: pair.certificate, ClientKeyData: pair.key}
	config.Contexts[cluster] = &clientcmdapi.Context{Cluster: cluster, AuthInfo: user, Namespace: "default"}
	config.CurrentContext = cluster
	return clientcmd.WriteToFile(*config, f.path(name))
}

func (a authority) issue(template *x509.Certificate) (pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return pair{}, err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, key.Public(), a.key)
	if err != nil {
		return pair{}, err
	}
	keyPEM, err := encodeKey(key)
	return pair{encode("CERTIFICATE", der), keyPEM}, err
}

func writeTokenKey(f folder) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return err
	}
	return os.WriteFile(f.path("pki/tokens.key"), keyPEM, 0o600)
}

func template(subject pkix.Name) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber:          big.NewInt(time.Now().UnixNano()),
		Subject:               subject,
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(tenYears),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
	}
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalECPrivateKey(key)
	return encode("EC PRIVATE KEY", der), err
}
