package gitops

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	lua "github.com/yuin/gopher-lua"
	luajson "layeh.com/gopher-json"
)

// What Argo CD runs scripts with: the same interpreter, for a second at the most, and of Lua's libraries only base, package
// and table, and of os the two functions that tell the time. Argo CD's own package cannot be imported: its module needs
// replacements that only its own build has. TestTheSandboxRunsWhatArgoShips holds the two together.
func sandbox(t *testing.T) *lua.LState {
	t.Helper()
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	t.Cleanup(state.Close)
	open := func(name string, library lua.LGFunction) {
		must(t, state.CallByParam(lua.P{Fn: state.NewFunction(library), Protect: true}, lua.LString(name)))
	}
	open(lua.LoadLibName, lua.OpenPackage)
	open(lua.BaseLibName, lua.OpenBase)
	open(lua.TabLibName, lua.OpenTable)
	state.PreloadModule(lua.OsLibName, clock)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	t.Cleanup(cancel)
	state.SetContext(ctx)
	return state
}

// clock is the library os without all that reaches beyond the script.
func clock(state *lua.LState) int {
	whole := lua.NewState(lua.Options{SkipOpenLibs: true})
	lua.OpenOs(whole)
	all := whole.Get(-1).(*lua.LTable)
	some := state.NewTable()
	for _, name := range []string{"time", "date"} {
		some.RawSetString(name, all.RawGetString(name))
	}
	state.Push(some)
	return 1
}

// run gives what a script returns for an object, as JSON.
func run(t *testing.T, script string, object map[string]any) []byte {
	t.Helper()
	state := sandbox(t)
	state.SetGlobal("obj", value(state, object))
	if err := state.DoString(script); err != nil {
		t.Fatalf("%s\n%s", err, script)
	}
	text, err := luajson.Encode(state.Get(-1))
	must(t, err)
	return text
}

// value makes a Lua value of what the API's clients decode.
func value(state *lua.LState, found any) lua.LValue {
	switch found := found.(type) {
	case map[string]any:
		table := state.NewTable()
		for key, entry := range found {
			table.RawSetString(key, value(state, entry))
		}
		return table
	case []any:
		table := state.NewTable()
		for _, entry := range found {
			table.Append(value(state, entry))
		}
		return table
	case string:
		return lua.LString(found)
	case bool:
		return lua.LBool(found)
	case int64:
		return lua.LNumber(found)
	case float64:
		return lua.LNumber(found)
	default:
		return lua.LNil
	}
}

// healthStatus is what a health script says.
type healthStatus struct {
	Status  string `json:"status"`
	Message string `json:"message"`
}

func health(t *testing.T, script string, object map[string]any) healthStatus {
	t.Helper()
	var found healthStatus
	must(t, json.Unmarshal(run(t, script, object), &found))
	return found
}

// action is one that a discovery script offers.
type action struct {
	Name        string `json:"name"`
	Disabled    bool   `json:"disabled"`
	IconClass   string `json:"iconClass"`
	DisplayName string `json:"displayName"`
}

func discover(t *testing.T, script string, object map[string]any) map[string]action {
	t.Helper()
	found := map[string]action{}
	text := run(t, script, object)
	if string(text) == "[]" {
		return found
	}
	entries := map[string]json.RawMessage{}
	must(t, json.Unmarshal(text, &entries))
	for name, entry := range entries {
		offered := action{Name: name}
		// An empty table has no entries and is no list either; the encoder calls it one.
		if string(entry) != "[]" {
			must(t, json.Unmarshal(entry, &offered))
		}
		found[name] = offered
	}
	return found
}

// act gives the object that an action returns.
func act(t *testing.T, script string, object map[string]any) map[string]any {
	t.Helper()
	var changed map[string]any
	must(t, json.Unmarshal(run(t, script, object), &changed))
	return asBefore(object, changed).(map[string]any)
}

// asBefore makes an empty map of an empty list where there was a map: Lua knows no difference.
func asBefore(before, after any) any {
	switch after := after.(type) {
	case map[string]any:
		old, _ := before.(map[string]any)
		for key, entry := range after {
			after[key] = asBefore(old[key], entry)
		}
	case []any:
		if _, was := before.(map[string]any); was && len(after) == 0 {
			return map[string]any{}
		}
		old, _ := before.([]any)
		for i, entry := range after {
			if i < len(old) {
				after[i] = asBefore(old[i], entry)
			}
		}
	}
	return after
}

func TestTheSandboxIsOne(t *testing.T) {
	for script, wanted := range map[string]string{
		`return os.time()`:                    "attempt to index",
		`return string.len("")`:               "attempt to index",
		`return require("os").getenv("HOME")`: "attempt to call",
		`return require("io")`:                "module io not found",
		`while true do end`:                   "deadline exceeded",
	} {
		err := sandbox(t).DoString(script)
		if err == nil || !strings.Contains(err.Error(), wanted) {
			t.Errorf("%s: %v", script, err)
		}
	}
}
