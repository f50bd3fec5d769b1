package gitops

import (
	"bytes"
	"encoding/base64"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"
	"filippo.io/age/armor"
	helm "github.com/fluxcd/helm-controller/api/v2"
	kustomize "github.com/fluxcd/kustomize-controller/api/v1"
	source "github.com/fluxcd/source-controller/api/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/kube-openapi/pkg/validation/spec"
	"k8s.io/kube-openapi/pkg/validation/strfmt"
	"k8s.io/kube-openapi/pkg/validation/validate"
	"sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

const (
	fluxSamples = "../../examples/flux"
	argoSamples = "../../examples/argocd/application.yaml"
	argoModule  = "github.com/argoproj/argo-cd/v3"
)

// documents are the objects of YAML files, each with its text.
func documents(t *testing.T, pattern string) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob(pattern)
	must(t, err)
	found := map[string][]byte{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		must(t, err)
		for _, document := range bytes.Split(text, []byte("\n---\n")) {
			object := parse(t, document)
			found[object.GetKind()+"/"+object.GetNamespace()+"/"+object.GetName()] = document
		}
	}
	return found
}

func parse(t *testing.T, document []byte) *unstructured.Unstructured {
	t.Helper()
	text, err := yaml.YAMLToJSONStrict(document)
	must(t, err)
	object := &unstructured.Unstructured{}
	must(t, object.UnmarshalJSON(text))
	return object
}

// strict decodes a document into Flux's own type; a field that the type does not have is an error.
func strict[T any](t *testing.T, document []byte) T {
	t.Helper()
	text, err := yaml.YAMLToJSONStrict(document)
	must(t, err)
	var found T
	// As the API server reads it: chartref is not chartRef.
	wrong, err := json.UnmarshalStrict(text, &found)
	must(t, err)
	if len(wrong) > 0 {
		t.Fatalf("%v\n%s", wrong, document)
	}
	return found
}

// fluxObjects are all that the samples give to Flux, and the namespaces they are in.
func fluxObjects(t *testing.T) map[string][]byte {
	t.Helper()
	all := documents(t, fluxSamples+"/sync.yaml")
	for name, document := range documents(t, fluxSamples+"/operator/*.yaml") {
		all[name] = document
	}
	return all
}

func TestTheFluxSamplesAreOfKindsThatFluxHas(t *testing.T) {
	wanted := map[string]string{
		"GitRepository/flux-system/network":         source.GroupVersion.String(),
		"Kustomization/flux-system/tenure":          kustomize.GroupVersion.String(),
		"Kustomization/flux-system/token-lifetimes": kustomize.GroupVersion.String(),
		"OCIRepository/tenure-system/tenure":        source.GroupVersion.String(),
		"HelmRelease/tenure-system/tenure":          helm.GroupVersion.String(),
		"Namespace//tenure-system":                  "v1",
		"Namespace//token-lifetimes":                "v1",
	}
	found := map[string]string{}
	for name, document := range fluxObjects(t) {
		found[name] = parse(t, document).GetAPIVersion()
	}
	if !reflect.DeepEqual(found, wanted) {
		t.Errorf("%v instead of %v", found, wanted)
	}
}

func TestTheFluxKustomizationsFollowEachOther(t *testing.T) {
	all := fluxObjects(t)
	git := strict[source.GitRepository](t, all["GitRepository/flux-system/network"])
	if git.Spec.URL == "" || git.Spec.Reference.Branch == "" || git.Spec.Interval.Duration == 0 {
		t.Errorf("%+v", git.Spec)
	}
	first := strict[kustomize.Kustomization](t, all["Kustomization/flux-system/tenure"])
	second := strict[kustomize.Kustomization](t, all["Kustomization/flux-system/token-lifetimes"])
	for _, step := range []kustomize.Kustomization{first, second} {
		if from := step.Spec.SourceRef; from.Kind != source.GitRepositoryKind || from.Name != git.Name {
			t.Errorf("%s comes from %+v", step.Name, from)
		}
		if !step.Spec.Wait || step.Spec.Interval.Duration == 0 || step.Spec.Timeout.Duration == 0 {
			t.Errorf("%s: %+v", step.Name, step.Spec)
		}
		files, err := filepath.Glob(filepath.Join("../..", step.Spec.Path, "*.yaml"))
		if must(t, err); len(files) != 2 {
			t.Errorf("%s has the files %v", step.Spec.Path, files)
		}
	}
	if after := second.Spec.DependsOn; len(after) != 1 || after[0].Name != first.Name {
		t.Errorf("%s comes after %+v", second.Name, after)
	}
	if key := second.Spec.Decryption; key.Provider != "sops" || key.SecretRef.Name != "sops-age" {
		t.Errorf("%+v", key)
	}
	if _, is := all["Namespace//"+second.Spec.TargetNamespace]; !is {
		t.Errorf("nothing makes the namespace %s", second.Spec.TargetNamespace)
	}
}

func TestTheFluxReleaseIsOfTheChart(t *testing.T) {
	all := fluxObjects(t)
	chart := strict[source.OCIRepository](t, all["OCIRepository/tenure-system/tenure"])
	if !strings.HasPrefix(chart.Spec.URL, source.OCIRepositoryPrefix) || chart.Spec.Interval.Duration == 0 {
		t.Errorf("%+v", chart.Spec)
	}
	// What Helm pushes a chart as, and Flux hands on unopened.
	const archive = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
	if layer := chart.Spec.LayerSelector; layer.MediaType != archive || layer.Operation != source.OCILayerCopy {
		t.Errorf("%+v", layer)
	}
	release := strict[helm.HelmRelease](t, all["HelmRelease/tenure-system/tenure"])
	if from := release.Spec.ChartRef; from.Kind != source.OCIRepositoryKind || from.Name != chart.Name {
		t.Errorf("the release is of %+v", from)
	}
}

func TestTheSecretIsEncrypted(t *testing.T) {
	secret := parse(t, documents(t, fluxSamples+"/token-lifetimes/*.sops.yaml")["Secret//x2-admin"])
	values, _, err := unstructured.NestedStringMap(secret.Object, "stringData")
	must(t, err)
	if len(values) != 2 || secret.Object["data"] != nil {
		t.Errorf("the Secret has %d values", len(values))
	}
	for _, key := range []string{"username", "password"} {
		encrypted(t, values[key])
	}
	metadata, _, err := unstructured.NestedMap(secret.Object, "sops")
	must(t, err)
	encrypted(t, metadata["mac"].(string))
	for _, recipient := range metadata["age"].([]any) {
		recipient := recipient.(map[string]any)
		if _, err := age.ParseX25519Recipient(recipient["recipient"].(string)); err != nil {
			t.Error(err)
		}
		// Somebody else's key opens an armored file of age only if it is one of the recipients; ours is none.
		other, err := age.GenerateX25519Identity()
		must(t, err)
		_, err = age.Decrypt(armor.NewReader(strings.NewReader(recipient["enc"].(string))), other)
		if _, closed := err.(*age.NoIdentityMatchError); !closed {
			t.Errorf("opening the data key with another key: %v", err)
		}
	}

	var rules struct {
		CreationRules []struct {
			PathRegex      string `json:"path_regex"`
			EncryptedRegex string `json:"encrypted_regex"`
			Age            string `json:"age"`
		} `json:"creation_rules"`
	}
	text, err := os.ReadFile(fluxSamples + "/.sops.yaml")
	must(t, err)
	must(t, yaml.UnmarshalStrict(text, &rules))
	rule := rules.CreationRules[0]
	if rule.EncryptedRegex != metadata["encrypted_regex"] || !regexp.MustCompile(rule.PathRegex).MatchString("x2-admin.sops.yaml") {
		t.Errorf("%+v did not make it", rule)
	}
	if recipient := metadata["age"].([]any)[0].(map[string]any)["recipient"]; recipient != rule.Age {
		t.Errorf("encrypted for %s instead of %s", recipient, rule.Age)
	}
}

var cipher = regexp.MustCompile(`^ENC\[AES256_GCM,data:([^,]+),iv:([^,]+),tag:([^,]+),type:str\]$`)

// encrypted wants what sops makes of a value.
func encrypted(t *testing.T, value string) {
	t.Helper()
	parts := cipher.FindStringSubmatch(value)
	if parts == nil {
		t.Fatalf("%q is not encrypted", value)
	}
	for i, length := range map[int]int{2: 32, 3: 16} {
		if bytes, err := base64.StdEncoding.DecodeString(parts[i]); err != nil || len(bytes) != length {
			t.Errorf("%q: %d bytes, %v", value, len(bytes), err)
		}
	}
}

// argo is a file of the module that Argo CD is built from.
func argo(t *testing.T, file string) string {
	t.Helper()
	folder, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", argoModule).Output()
	must(t, err)
	return filepath.Join(strings.TrimSpace(string(folder)), file)
}

// application is the schema of Argo CD's Application.
func application(t *testing.T) *unstructured.Unstructured {
	t.Helper()
	return read(t, argo(t, "manifests/crds/application-crd.yaml"))
}

func TestTheApplicationsAreWhatArgoReads(t *testing.T) {
	crd := application(t)
	manual := func(page string) string {
		text, err := os.ReadFile(argo(t, filepath.Join("docs/user-guide", page)))
		must(t, err)
		return string(text)
	}
	all := documents(t, argoSamples)
	if len(all) != 2 {
		t.Fatalf("%d objects", len(all))
	}
	for name, document := range all {
		object := parse(t, document)
		for _, misfit := range misfits(t, crd, object) {
			t.Errorf("%s: %s", name, misfit)
		}
		// These are texts to the schema.
		options, _, err := unstructured.NestedStringSlice(object.Object, "spec", "syncPolicy", "syncOptions")
		must(t, err)
		for _, option := range options {
			if !strings.Contains(manual("sync-options.md"), option) {
				t.Errorf("%s: Argo CD has no sync option %s", name, option)
			}
		}
		if !slices.Contains(options, "ServerSideApply=true") {
			t.Errorf("%s: %v", name, options)
		}
		pages := map[string]string{
			"argocd.argoproj.io/sync-wave":       "sync-waves.md",
			"argocd.argoproj.io/compare-options": "diff-strategies.md",
		}
		for annotation, value := range object.GetAnnotations() {
			page := manual(pages[annotation])
			if !strings.Contains(page, annotation) || annotation != "argocd.argoproj.io/sync-wave" && !strings.Contains(page, value) {
				t.Errorf("%s: Argo CD does not know %s: %s", name, annotation, value)
			}
		}
	}
}

// misfits is where an object does not fit its CRD's schema: types, enumerations, bounds, required and unknown fields.
func misfits(t *testing.T, crd, object *unstructured.Unstructured) []string {
	t.Helper()
	versions, _, err := unstructured.NestedSlice(crd.Object, "spec", "versions")
	must(t, err)
	group, _, _ := unstructured.NestedString(crd.Object, "spec", "group")
	kind, _, _ := unstructured.NestedString(crd.Object, "spec", "names", "kind")
	for _, version := range versions {
		version := version.(map[string]any)
		if object.GetAPIVersion() != group+"/"+version["name"].(string) || object.GetKind() != kind {
			continue
		}
		definition, _, err := unstructured.NestedMap(version, "schema", "openAPIV3Schema")
		must(t, err)
		text, err := yaml.Marshal(definition)
		must(t, err)
		schema := &spec.Schema{}
		must(t, yaml.Unmarshal(text, schema))
		found := unknown(schema, "", object.Object)
		for _, err := range validate.NewSchemaValidator(schema, nil, "", strfmt.Default).Validate(object.Object).Errors {
			found = append(found, err.Error())
		}
		return found
	}
	return []string{object.GetAPIVersion() + " " + object.GetKind() + " is another kind"}
}

// unknown are the fields of a value that its schema does not have.
func unknown(schema *spec.Schema, at string, value any) []string {
	var found []string
	switch value := value.(type) {
	case map[string]any:
		for key, entry := range value {
			field, known := schema.Properties[key]
			switch {
			case at == "" && slices.Contains([]string{"apiVersion", "kind", "metadata"}, key):
			case known:
				found = append(found, unknown(&field, at+"."+key, entry)...)
			case schema.AdditionalProperties != nil && schema.AdditionalProperties.Schema != nil:
				found = append(found, unknown(schema.AdditionalProperties.Schema, at+"."+key, entry)...)
			case schema.Extensions["x-kubernetes-preserve-unknown-fields"] != true:
				found = append(found, at+"."+key+" is unknown")
			}
		}
	case []any:
		for _, entry := range value {
			found = append(found, unknown(schema.Items.Schema, at+"[]", entry)...)
		}
	}
	return found
}

func TestATypoIsFound(t *testing.T) {
	crd := application(t)
	sample := func() *unstructured.Unstructured {
		return parse(t, documents(t, argoSamples)["Application/argocd/token-lifetimes"])
	}
	for wanted, spoil := range map[string]func(map[string]any){
		".spec.syncPolicy.automatic is unknown": func(o map[string]any) {
			must(t, unstructured.SetNestedField(o, true, "spec", "syncPolicy", "automatic"))
		},
		"spec.destination in body is required": func(o map[string]any) {
			unstructured.RemoveNestedField(o, "spec", "destination")
		},
		"spec.syncPolicy.automated.prune in body must be of type boolean": func(o map[string]any) {
			must(t, unstructured.SetNestedField(o, "yes", "spec", "syncPolicy", "automated", "prune"))
		},
		"is another kind": func(o map[string]any) { o["kind"] = "Aplication" },
	} {
		object := sample()
		spoil(object.Object)
		if found := misfits(t, crd, object); len(found) != 1 || !strings.Contains(found[0], wanted) {
			t.Errorf("%v instead of %s", found, wanted)
		}
	}
}
