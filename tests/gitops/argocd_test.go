package gitops

import (
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/argoproj/argo-cd/v3/resource_customizations"
	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

const (
	customizations = "../../examples/argocd/resource_customizations"
	configMap      = "../../examples/argocd/argocd-cm.yaml"
)

var update = flag.Bool("update", false, "write the files that are made from X2Gateway's scripts")

var actions = []string{"reconcile", "suspend", "resume"}

// healthTests is Argo CD's health_test.yaml.
type healthTests struct {
	Tests []struct {
		InputPath    string       `json:"inputPath"`
		HealthStatus healthStatus `json:"healthStatus"`
	} `json:"tests"`
}

// actionTests is Argo CD's action_test.yaml.
type actionTests struct {
	DiscoveryTests []struct {
		InputPath string   `json:"inputPath"`
		Result    []action `json:"result"`
	} `json:"discoveryTests"`
	ActionTests []struct {
		Action             string `json:"action"`
		InputPath          string `json:"inputPath"`
		ExpectedOutputPath string `json:"expectedOutputPath"`
	} `json:"actionTests"`
}

// runCustomizations runs the test cases of a folder that is laid out as Argo CD's, and returns how many there are.
func runCustomizations(t *testing.T, folder fs.FS) int {
	t.Helper()
	cases := 0
	must(t, fs.WalkDir(folder, ".", func(file string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.Name() == "health_test.yaml":
			cases += runHealth(t, folder, path.Dir(file))
		case entry.Name() == "action_test.yaml":
			cases += runActions(t, folder, path.Dir(file))
		}
		return nil
	}))
	return cases
}

func runHealth(t *testing.T, folder fs.FS, kind string) int {
	t.Helper()
	var tests healthTests
	decode(t, folder, path.Join(kind, "health_test.yaml"), &tests)
	script := text(t, folder, path.Join(kind, "health.lua"))
	for _, test := range tests.Tests {
		if found := health(t, script, object(t, folder, path.Join(kind, test.InputPath))); found != test.HealthStatus {
			t.Errorf("%s, %s: %+v instead of %+v", kind, test.InputPath, found, test.HealthStatus)
		}
	}
	return len(tests.Tests)
}

func runActions(t *testing.T, folder fs.FS, at string) int {
	t.Helper()
	var tests actionTests
	decode(t, folder, path.Join(at, "action_test.yaml"), &tests)
	discovery := text(t, folder, path.Join(at, "discovery.lua"))
	for _, test := range tests.DiscoveryTests {
		wanted := map[string]action{}
		for _, action := range test.Result {
			wanted[action.Name] = action
		}
		found := discover(t, discovery, object(t, folder, path.Join(at, test.InputPath)))
		if !reflect.DeepEqual(found, wanted) {
			t.Errorf("%s, %s: %+v instead of %+v", at, test.InputPath, found, wanted)
		}
	}
	for _, test := range tests.ActionTests {
		script := text(t, folder, path.Join(at, test.Action, "action.lua"))
		found := act(t, script, object(t, folder, path.Join(at, test.InputPath)))
		wanted := object(t, folder, path.Join(at, test.ExpectedOutputPath))
		sameTime(found, wanted)
		if !reflect.DeepEqual(found, wanted) {
			t.Errorf("%s, %s: %+v instead of %+v", at, test.Action, found, wanted)
		}
	}
	return len(tests.DiscoveryTests) + len(tests.ActionTests)
}

// sameTime gives a time that an action wrote just now the value it has in the file.
func sameTime(found, wanted map[string]any) {
	for name, layout := range map[string]string{
		"tenure.dev/reconcile-requested-at": time.RFC3339,
		"reconcile.fluxcd.io/requestedAt":   "By Argo CD at: 2006-01-02T15:04:05",
	} {
		annotation := []string{"metadata", "annotations", name}
		value, _, _ := unstructured.NestedString(found, annotation...)
		written, err := time.Parse(layout, value)
		if age := time.Since(written); err != nil || age < 0 || age > time.Minute {
			continue
		}
		if value, is, _ := unstructured.NestedString(wanted, annotation...); is {
			_ = unstructured.SetNestedField(found, value, annotation...)
		}
	}
}

func text(t *testing.T, folder fs.FS, file string) string {
	t.Helper()
	found, err := fs.ReadFile(folder, file)
	must(t, err)
	return string(found)
}

func decode(t *testing.T, folder fs.FS, file string, into any) {
	t.Helper()
	if err := yaml.UnmarshalStrict([]byte(text(t, folder, file)), into); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

func object(t *testing.T, folder fs.FS, file string) map[string]any {
	t.Helper()
	var found map[string]any
	decode(t, folder, file, &found)
	return found
}

func TestTheCasesOfOurCustomizations(t *testing.T) {
	// Five of health, and of the actions three offers and three results, for each of four kinds.
	if cases := runCustomizations(t, os.DirFS(customizations)); cases != 4*(5+3+3) {
		t.Errorf("%d cases", cases)
	}
}

func TestTheSandboxRunsWhatArgoShips(t *testing.T) {
	cases := 0
	groups, err := fs.Glob(resource_customizations.Embedded, "*.fluxcd.io")
	must(t, err)
	for _, group := range groups {
		folder, err := fs.Sub(resource_customizations.Embedded, group)
		must(t, err)
		cases += runCustomizations(t, folder)
	}
	if cases < 50 {
		t.Errorf("only %d cases in %v", cases, groups)
	}
}

// scripts are the Lua files of a kind, by their path.
func scripts(t *testing.T, kind string) map[string]string {
	t.Helper()
	files := []string{"health.lua", "actions/discovery.lua"}
	for _, action := range actions {
		files = append(files, "actions/"+action+"/action.lua")
	}
	found := map[string]string{}
	for _, file := range files {
		found[file] = text(t, os.DirFS(filepath.Join(customizations, "tenure.dev", kind)), file)
	}
	return found
}

func TestArgoSaysOfEveryReportWhatKstatusSays(t *testing.T) {
	words := map[status.Status]string{
		status.CurrentStatus: "Healthy", status.InProgressStatus: "Progressing", status.FailedStatus: "Degraded",
	}
	for _, r := range records(t) {
		script := scripts(t, r.Object.GetKind())["health.lua"]
		judge := func(wanted healthStatus) {
			t.Helper()
			if found := health(t, script, r.Object.Object); found != wanted {
				t.Errorf("%s: %+v instead of %+v", r.name(), found, wanted)
			}
		}
		if r.Case == "suspended" {
			judge(healthStatus{"Suspended", "spec.suspend is true: nothing is read or changed."})
			continue
		}
		judge(healthStatus{words[standing(t, r.Reason)], fmt.Sprintf("What %s says.", r.Reason)})
	}
}

func TestArgoWaitsForAReportOnThePresentSpec(t *testing.T) {
	waiting := healthStatus{"Progressing", "Waiting for tenure to reconcile this spec."}
	judge := func(what string, object *unstructured.Unstructured) {
		t.Helper()
		if found := health(t, scripts(t, object.GetKind())["health.lua"], object.Object); found != waiting {
			t.Errorf("%s of %s: %+v", what, object.GetKind(), found)
		}
	}
	for _, kind := range kinds {
		judge("the schema's default", unseen(t, kind))
		nothing := unseen(t, kind)
		delete(nothing.Object, "status")
		judge("no status", nothing)
		empty := unseen(t, kind)
		must(t, unstructured.SetNestedMap(empty.Object, map[string]any{"observedGeneration": int64(1)}, "status"))
		judge("no condition", empty)
	}
	for _, r := range records(t) {
		r.Object.SetGeneration(r.Object.GetGeneration() + 1)
		judge("a report on an earlier spec", &r.Object)
		// Of all that is reported only one part is late.
		for late := -1; late < len(r.conditions(t)); late++ {
			object := r.Object.DeepCopy()
			r.age(t, object, late)
			judge("a report of which a part is on an earlier spec", object)
		}
	}
}

func (r recorded) conditions(t *testing.T) []any {
	t.Helper()
	conditions, _, err := unstructured.NestedSlice(r.Object.Object, "status", "conditions")
	must(t, err)
	return conditions
}

// age makes all of a report speak of the present spec but one condition, or the status itself.
func (r recorded) age(t *testing.T, object *unstructured.Unstructured, late int) {
	t.Helper()
	generation := object.GetGeneration()
	conditions := r.conditions(t)
	for i, condition := range conditions {
		if i != late {
			condition.(map[string]any)["observedGeneration"] = generation
		}
	}
	must(t, unstructured.SetNestedSlice(object.Object, conditions, "status", "conditions"))
	if late >= 0 {
		must(t, unstructured.SetNestedField(object.Object, generation, "status", "observedGeneration"))
	}
}

// customization is what argocd-cm holds of a kind's actions.
type customization struct {
	Discovery   string       `json:"discovery.lua"`
	Definitions []definition `json:"definitions"`
}

type definition struct {
	Name   string `json:"name"`
	Script string `json:"action.lua"`
}

func TestTheConfigMapHoldsTheScriptsAndEveryKindHasTheSame(t *testing.T) {
	if *update {
		writeScripts(t)
	}
	wanted := scripts(t, "X2Gateway")
	data, _, err := unstructured.NestedStringMap(read(t, configMap).Object, "data")
	must(t, err)
	if len(data) != 2*len(kinds) {
		t.Errorf("%d entries in %s", len(data), configMap)
	}
	const repair = "run `go test ./... -update` in tests/gitops and commit what it writes"
	for _, kind := range kinds {
		if !reflect.DeepEqual(scripts(t, kind), wanted) {
			t.Errorf("the scripts of %s are not those of X2Gateway: %s", kind, repair)
		}
		found := map[string]string{"health.lua": data["resource.customizations.health.tenure.dev_"+kind]}
		var actions customization
		must(t, yaml.UnmarshalStrict([]byte(data["resource.customizations.actions.tenure.dev_"+kind]), &actions))
		found["actions/discovery.lua"] = actions.Discovery
		for _, definition := range actions.Definitions {
			found["actions/"+definition.Name+"/action.lua"] = definition.Script
		}
		if !reflect.DeepEqual(found, wanted) {
			t.Errorf("%s has other scripts for %s: %s", configMap, kind, repair)
		}
	}
}

// writeScripts copies X2Gateway's scripts to the other kinds and into the ConfigMap.
func writeScripts(t *testing.T) {
	t.Helper()
	source := scripts(t, "X2Gateway")
	offered := customization{Discovery: source["actions/discovery.lua"]}
	for _, name := range actions {
		offered.Definitions = append(offered.Definitions, definition{name, source["actions/"+name+"/action.lua"]})
	}
	offer, err := yaml.Marshal(offered)
	must(t, err)
	data := map[string]any{}
	for _, kind := range kinds {
		for file, script := range source {
			target := filepath.Join(customizations, "tenure.dev", kind, file)
			must(t, os.MkdirAll(filepath.Dir(target), 0o755))
			must(t, os.WriteFile(target, []byte(script), 0o644))
		}
		data["resource.customizations.health.tenure.dev_"+kind] = source["health.lua"]
		data["resource.customizations.actions.tenure.dev_"+kind] = string(offer)
	}
	manifest, err := yaml.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap", "data": data,
		"metadata": map[string]any{"name": "argocd-cm", "namespace": "argocd"},
	})
	must(t, err)
	head := "# Health checks and actions of tenure's resources for Argo CD. Generated from resource_customizations; do not edit.\n" +
		"# To add them to an existing argocd-cm: kubectl apply --server-side --field-manager=tenure -f argocd-cm.yaml\n"
	must(t, os.WriteFile(configMap, append([]byte(head), manifest...), 0o644))
}

func TestAScriptThatWritesNothingLeavesEverythingAsItWas(t *testing.T) {
	for _, r := range records(t) {
		before, err := json.Marshal(r.Object.Object)
		must(t, err)
		must(t, json.Unmarshal(before, &r.Object.Object))
		if after := act(t, "return obj", r.Object.Object); !reflect.DeepEqual(after, r.Object.Object) {
			t.Errorf("%s: %v", r.name(), after)
		}
	}
}
