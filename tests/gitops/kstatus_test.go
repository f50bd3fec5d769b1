package gitops

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// What users are promised: how an object stands, by the reason of its condition Ready.
var promised = map[status.Status]string{
	status.CurrentStatus: `InSync Unmanaged Overridden Observed`,
	status.InProgressStatus: `Drifted Progressing AwaitingWindow AwaitingRollout AwaitingApproval NoGatewaysMatch GatewaysNotReady
		SecretNotFound SecretKeyMissing ConfigMapNotFound ServerNotFound ServerNotReady Unreachable TimedOut RateLimited
		UnexpectedAnswer`,
	status.FailedStatus: `InvalidSpec PlaintextRefused InsecureTlsRefused OriginNotAllowed AddressRefused SecretTypeRefused
		CaUnusable TlsFailed AuthenticationFailed AdminRoleRequired Forbidden CustomerNotFound AdditionalInfoUnusable
		VerificationFailed Conflict Contested RolloutHalted`,
}

var kinds = []string{"X2Gateway", "TokenPolicy", "KonaServer", "CustomerTokenTtl"}

// recorded is an object as the operator's own code reports it; see tests/generated/gitops.rs.
type recorded struct {
	// "alone": Ready and what belongs to it. "noted": the same with Insecure and Risky beside it.
	// "suspended": paused, from how Reason says it stood before.
	Case   string
	Reason string
	Object unstructured.Unstructured
}

func (r recorded) name() string {
	return strings.Join([]string{r.Object.GetKind(), r.Case, r.Reason}, "/")
}

func records(t *testing.T) []recorded {
	t.Helper()
	text, err := os.ReadFile("testdata/objects.json")
	must(t, err)
	var all []recorded
	must(t, json.Unmarshal(text, &all))
	return all
}

// standing is what is promised for a reason.
func standing(t *testing.T, reason string) status.Status {
	t.Helper()
	for standing, reasons := range promised {
		if slices.Contains(strings.Fields(reasons), reason) {
			return standing
		}
	}
	t.Fatalf("nothing is promised for the reason %q", reason)
	return ""
}

func compute(t *testing.T, object *unstructured.Unstructured) status.Status {
	t.Helper()
	result, err := status.Compute(object)
	must(t, err)
	return result.Status
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestEveryReasonOfEveryKindIsRecorded(t *testing.T) {
	seen := map[string]int{}
	for _, r := range records(t) {
		seen[r.name()]++
	}
	wanted := 0
	for _, kind := range kinds {
		for _, reasons := range promised {
			for _, reason := range strings.Fields(reasons) {
				for _, name := range []string{kind + "/alone/" + reason, kind + "/noted/" + reason} {
					wanted++
					if seen[name] != 1 {
						t.Errorf("%s is recorded %d times", name, seen[name])
					}
				}
			}
		}
		for _, before := range []string{"", "InSync", "Unreachable", "AuthenticationFailed"} {
			wanted++
			if name := kind + "/suspended/" + before; seen[name] != 1 {
				t.Errorf("%s is recorded %d times", name, seen[name])
			}
		}
	}
	if wanted != 4*(37+37+4) || len(seen) != wanted {
		t.Errorf("%d objects are wanted and %d recorded", wanted, len(seen))
	}
}

func TestKstatusSaysWhatIsPromised(t *testing.T) {
	for _, r := range records(t) {
		wanted := status.InProgressStatus
		switch {
		case r.Case != "suspended":
			wanted = standing(t, r.Reason)
		// Paused, Ready stays as it was. Without it there is nothing that anybody could wait for.
		case r.Reason == "" || r.Reason == "InSync":
			wanted = status.CurrentStatus
		}
		if found := compute(t, &r.Object); found != wanted {
			t.Errorf("%s is %s instead of %s", r.name(), found, wanted)
		}
	}
}

func TestAReportOnAnEarlierSpecIsInProgress(t *testing.T) {
	for _, r := range records(t) {
		r.Object.SetGeneration(r.Object.GetGeneration() + 1)
		if found := compute(t, &r.Object); found != status.InProgressStatus {
			t.Errorf("%s is %s", r.name(), found)
		}
	}
}

func TestWhatIsBeingDeletedIsTerminating(t *testing.T) {
	for _, r := range records(t) {
		must(t, unstructured.SetNestedField(r.Object.Object, "2026-11-22T10:00:00Z", "metadata", "deletionTimestamp"))
		if found := compute(t, &r.Object); found != status.TerminatingStatus {
			t.Errorf("%s is %s", r.name(), found)
		}
	}
}

// unseen is a new object as the API server keeps it until the operator has looked at it.
func unseen(t *testing.T, kind string) *unstructured.Unstructured {
	t.Helper()
	for _, r := range records(t) {
		if r.Object.GetKind() != kind {
			continue
		}
		r.Object.SetGeneration(1)
		r.Object.Object["status"] = defaultStatus(t, kind)
		return &r.Object
	}
	t.Fatalf("no %s is recorded", kind)
	return nil
}

// defaultStatus is what the schema writes.
func defaultStatus(t *testing.T, kind string) map[string]any {
	t.Helper()
	files, err := filepath.Glob("../../crds/*.yaml")
	must(t, err)
	for _, file := range files {
		crd := read(t, file)
		if name, _, _ := unstructured.NestedString(crd.Object, "spec", "names", "kind"); name != kind {
			continue
		}
		versions, _, err := unstructured.NestedSlice(crd.Object, "spec", "versions")
		must(t, err)
		schema := []string{"schema", "openAPIV3Schema", "properties", "status", "default"}
		value, found, err := unstructured.NestedMap(versions[0].(map[string]any), schema...)
		must(t, err)
		if !found {
			t.Fatalf("%s has no default for its status", file)
		}
		return value
	}
	t.Fatalf("no CRD of %s", kind)
	return nil
}

// read gives the one object of a YAML file, numbers as the API's clients have them.
func read(t *testing.T, path string) *unstructured.Unstructured {
	t.Helper()
	text, err := os.ReadFile(path)
	must(t, err)
	text, err = yaml.YAMLToJSON(text)
	must(t, err)
	object := &unstructured.Unstructured{}
	must(t, object.UnmarshalJSON(text))
	return object
}

func TestWhatNobodyHasLookedAtIsInProgress(t *testing.T) {
	for _, kind := range kinds {
		if found := compute(t, unseen(t, kind)); found != status.InProgressStatus {
			t.Errorf("%s is %s", kind, found)
		}
	}
}
