//! What the layout promises: the engine is pure, modules form layers without cycles, `lib.rs` is a map, functions are short, and
//! the words users see are those of the contract.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::string_slice, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use tenure::engine::reason::{Kstatus, Reason};
use tenure::engine::tally::State;

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let entries: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    let (folders, files): (Vec<_>, Vec<_>) = entries.into_iter().partition(|path| path.is_dir());
    let below = folders.iter().flat_map(|folder| rust_files(folder));
    files.into_iter().filter(|path| path.extension().is_some_and(|e| e == "rs")).chain(below).collect()
}

/// The words of a file's code: identifiers, without comments.
fn words(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    identifiers(&code.map(|line| line.split(" // ").next().unwrap()).collect::<Vec<_>>().join("\n"))
}

fn identifiers(code: &str) -> Vec<String> {
    let words = code.split(|c: char| !c.is_alphanumeric() && c != '_');
    words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

#[test]
fn the_engine_is_pure() {
    let mut files = rust_files(&source().join("engine"));
    files.push(source().join("engine.rs"));
    assert!(files.len() >= 10, "{files:?}");
    let impure = [
        "kube",
        "hyper",
        "reqwest",
        "tokio",
        "async",
        "await",
        "clock",
        "env",
        "fs",
        "net",
        "process",
        "thread",
        "fastrand",
        "rand",
        "Instant",
        "SystemTime",
        "now_utc",
        "futures",
        "tracing",
        "vendor",
        "controller",
        "cli",
        "println",
        "eprintln",
        // A `LazyLock` holds a constant.
        "Mutex",
        "RwLock",
        "Condvar",
        "OnceLock",
        "OnceCell",
        "Cell",
        "RefCell",
        "AtomicBool",
        "AtomicU32",
        "AtomicU64",
        "AtomicUsize",
    ];
    for file in files {
        // An address is data.
        let code = code(&file).replace("use std::net::IpAddr;", "");
        let words: BTreeSet<String> = identifiers(&code).into_iter().collect();
        let found: Vec<_> = impure.iter().filter(|word| words.contains(**word)).collect();
        assert!(found.is_empty(), "{} mentions {found:?}", file.display());
    }
}

/// That the search above finds what it is meant to find.
#[test]
fn the_search_for_impurity_finds_it() {
    let files = ["vendor/http.rs", "vendor/limits.rs"].map(|file| words(&source().join(file)));
    let vendor: BTreeSet<String> = files.into_iter().flatten().collect();
    for word in ["hyper", "tokio", "async", "clock", "Mutex"] {
        assert!(vendor.contains(word), "{word}");
    }
}

#[test]
fn the_resources_types_are_free_of_io() {
    let mut files = rust_files(&source().join("crd"));
    files.push(source().join("crd.rs"));
    for file in files {
        let words: BTreeSet<String> = words(&file).into_iter().collect();
        for word in ["hyper", "tokio", "async", "clock", "engine", "vendor", "controller", "cli"] {
            assert!(!words.contains(word), "{} mentions {word}", file.display());
        }
    }
}

#[test]
fn the_vendors_know_nothing_of_kubernetes() {
    for file in rust_files(&source().join("vendor")) {
        let words: BTreeSet<String> = words(&file).into_iter().collect();
        for word in ["kube", "controller", "cli"] {
            assert!(!words.contains(word), "{} mentions {word}", file.display());
        }
    }
}

#[test]
fn the_library_is_a_map() {
    for line in std::fs::read_to_string(source().join("lib.rs")).unwrap().lines() {
        let is_module = line.starts_with("pub mod ") && line.ends_with(';');
        assert!(
            line.is_empty() || line.starts_with("//!") || is_module,
            "lib.rs holds more than docs and modules: {line}"
        );
    }
}

/// A file's code up to its tests, without comments and without the contents of string literals.
fn code(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap();
    let text = text.split("\n#[cfg(test)]\nmod ").next().unwrap();
    let mut code = String::new();
    let mut rest = text.chars().peekable();
    let mut last = ' ';
    while let Some(c) = rest.next() {
        match c {
            '/' if rest.peek() == Some(&'/') => while rest.next_if(|c| *c != '\n').is_some() {},
            // A quote as a character.
            '"' if last == '\'' => code.push('"'),
            '"' => {
                while let Some(c) = rest.next() {
                    match c {
                        '\\' => drop(rest.next()),
                        '"' => break,
                        _ => {}
                    }
                }
                code.push_str("\"\"");
            }
            c => code.push(c),
        }
        last = c;
    }
    code
}

/// The modules of `src` by their paths, such as `controller::gateway::change`.
fn modules() -> BTreeMap<String, PathBuf> {
    let name = |path: &Path| {
        let path = path.strip_prefix(source()).unwrap().with_extension("");
        path.iter().map(|part| part.to_str().unwrap()).collect::<Vec<_>>().join("::")
    };
    rust_files(&source()).into_iter().map(|path| (name(&path), path)).collect()
}

/// The paths of a `use` without its braces: `a::{b, c::d}` is `a::b` and `a::c::d`.
fn expand(tree: &str, prefix: &str, found: &mut Vec<String>) {
    let Some(open) = tree.find('{') else {
        found.extend(
            tree.split(',').map(str::trim).filter(|path| !path.is_empty()).map(|p| format!("{prefix}{p}")),
        );
        return;
    };
    let prefix = format!("{prefix}{}", tree[..open].trim());
    let inner = &tree[open + 1..tree.rfind('}').unwrap()];
    let (mut depth, mut start) = (0, 0);
    for (i, c) in inner.char_indices().chain([(inner.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                expand(inner[start..i].trim(), &prefix, found);
                start = i + 1;
            }
            _ => {}
        }
    }
}

/// Every path that a file mentions, in `use` items and in its code.
fn paths(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for statement in code.split(';') {
        let is_use =
            |line: &str| line.starts_with("use ") || line.starts_with("pub") && line.contains(" use ");
        let lines = statement.lines().map(str::trim).skip_while(|line| !is_use(line)).collect::<Vec<_>>();
        if let Some((_, tree)) = lines.join(" ").split_once("use ") {
            expand(tree, "", &mut found);
        }
    }
    let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    found.extend(code.split(|c| !is_path(c)).filter(|word| word.contains("::")).map(str::to_owned));
    found
}

/// Which module imports which; a module and its own submodules are one.
fn imports() -> BTreeMap<String, BTreeSet<String>> {
    let modules = modules();
    let resolve = |path: &str| {
        let mut path = path;
        loop {
            if modules.contains_key(path) {
                return Some(path.to_owned());
            }
            path = path.rsplit_once("::")?.0;
        }
    };
    let target = |module: &str, path: &str| {
        let mut base: Vec<&str> = module.split("::").collect();
        let mut parts = path.split("::").peekable();
        match *parts.peek()? {
            "crate" => {
                parts.next();
                base.clear();
            }
            "self" => drop(parts.next()),
            _ => while parts.next_if_eq(&"super").is_some() && base.pop().is_some() {},
        }
        base.extend(parts);
        resolve(&base.join("::"))
    };
    let related =
        |a: &str, b: &str| a == b || a.starts_with(&format!("{b}::")) || b.starts_with(&format!("{a}::"));
    let of = |(module, path): (&String, &PathBuf)| {
        let targets = paths(&code(path)).into_iter().filter_map(|path| target(module, &path));
        (module.clone(), targets.filter(|target| !related(module, target)).collect())
    };
    modules.iter().map(of).collect()
}

fn reachable<'a>(imports: &'a BTreeMap<String, BTreeSet<String>>, from: &str) -> BTreeSet<&'a str> {
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    let mut open: Vec<&str> = imports.get(from).into_iter().flatten().map(String::as_str).collect();
    while let Some(module) = open.pop() {
        if seen.insert(module) {
            open.extend(imports.get(module).into_iter().flatten().map(String::as_str));
        }
    }
    seen
}

/// An import as one of siblings: if `a::b::c` imports `a::d::e`, then `a::b` imports `a::d`.
fn siblings(module: &str, target: &str) -> (String, String) {
    let pairs = module.split("::").zip(target.split("::"));
    let depth = pairs.take_while(|(a, b)| a == b).count() + 1;
    let head = |path: &str| path.split("::").take(depth).collect::<Vec<_>>().join("::");
    (head(module), head(target))
}

/// A module and those below it are one: if one of them imports another module, none of that imports one of them.
#[test]
fn modules_form_no_cycle() {
    let mut imports: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (module, targets) in self::imports() {
        for (module, target) in targets.iter().map(|target| siblings(&module, target)) {
            imports.entry(module).or_default().insert(target);
        }
    }
    assert!(imports["runtime"].contains("engine"), "the search finds what it is meant to find");
    let is_in_one = |module: &&str| reachable(&imports, module).contains(module);
    let found: BTreeSet<&str> = imports.keys().map(String::as_str).filter(is_in_one).collect();
    assert!(found.is_empty(), "modules that are part of an import cycle: {found:?}");
}

/// What each part of the program may import; `cli` puts everything together.
const LAYERS: [(&str, &str); 12] = [
    ("main", "cli"),
    ("crd", ""),
    ("engine", "crd"),
    ("clock", ""),
    ("leader", "clock"),
    ("metrics", "crd"),
    ("telemetry", "metrics"),
    ("vendor", "clock crd engine leader metrics telemetry"),
    ("runtime", "clock crd engine leader metrics telemetry"),
    ("controller", "admin clock crd engine leader metrics runtime telemetry vendor"),
    ("admin", "clock leader metrics runtime"),
    ("cli", "admin clock controller crd engine leader metrics runtime telemetry vendor"),
];

#[test]
fn parts_form_layers() {
    let part = |module: &str| module.split("::").next().unwrap().to_owned();
    for (module, targets) in imports() {
        if module == "lib" {
            continue;
        }
        let layer = LAYERS.iter().find(|(name, _)| *name == part(&module));
        let (_, allowed) = layer.unwrap_or_else(|| panic!("{module} is in no layer"));
        for target in targets.iter().map(|target| part(target)).filter(|target| *target != part(&module)) {
            assert!(allowed.split(' ').any(|name| name == target), "{module} must not import {target}");
        }
    }
}

/// The parameters of each function, by its name.
fn parameters(code: &str) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for item in code.split("fn ").skip(1) {
        let name: String = item.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let rest = &item[name.len()..];
        // Generics, in which an arrow closes nothing.
        let mut depth = 0;
        let mut last = ' ';
        let open = rest.char_indices().find(|(_, c)| {
            match c {
                '<' => depth += 1,
                '>' if last != '-' => depth -= 1,
                _ => {}
            }
            last = *c;
            depth == 0 && *c != '>'
        });
        let Some((open, '(')) = open.filter(|_| !name.is_empty()) else { continue };
        let mut count = 0;
        let mut parameter = String::new();
        let (mut depth, mut last) = (0, ' ');
        for c in rest[open + 1..].chars() {
            match c {
                ')' if depth == 0 => break,
                '(' | '[' | '<' | '{' => depth += 1,
                ')' | ']' | '}' => depth -= 1,
                '>' if last != '-' => depth -= 1,
                _ => {}
            }
            last = c;
            if c == ',' && depth == 0 {
                count += usize::from(is_counted(&std::mem::take(&mut parameter)));
            } else {
                parameter.push(c);
            }
        }
        found.push((name, count + usize::from(is_counted(&parameter))));
    }
    found
}

fn is_counted(parameter: &str) -> bool {
    let parameter = parameter.trim();
    !parameter.is_empty() && !parameter.split(|c: char| !c.is_alphanumeric()).any(|word| word == "self")
}

#[test]
fn functions_take_few_parameters() {
    assert_eq!(parameters("fn f<F: Fn(u8) -> u8>(&self, a: (u8, u8), b: F) {}"), [("f".to_owned(), 2)]);
    for (module, path) in modules() {
        for (name, count) in parameters(&code(&path)) {
            assert!(count <= 5, "{module}::{name} has {count} parameters");
        }
    }
}

/// The names of the fields of each log line.
fn log_lines(code: &str) -> Vec<Vec<String>> {
    let calls = code.split("tracing::").filter_map(|text| {
        let (level, arguments) = text.split_once("!(")?;
        ["error", "warn", "info", "debug", "trace"].contains(&level).then_some(arguments)
    });
    let fields = |arguments: &str| {
        let (mut depth, mut fields) = (0, vec![String::new()]);
        for c in arguments.chars() {
            match c {
                '(' => depth += 1,
                ')' if depth == 0 => break,
                ')' => depth -= 1,
                ',' if depth == 0 => fields.push(String::new()),
                _ => {}
            }
            fields.last_mut().unwrap().push(c);
        }
        let name = |field: &String| {
            let name = field.split('=').next().unwrap();
            name.trim_matches(|c: char| !c.is_alphanumeric()).to_owned()
        };
        fields.iter().map(name).collect()
    };
    calls.map(fields).collect()
}

/// Every line can be found by the same fields.
#[test]
fn log_lines_name_an_object_by_kind_namespace_name_and_uid() {
    let example = log_lines("tracing::warn!(kind, %url, name = of(a, b), \"\"); tracing::info_span!(object)");
    assert_eq!(example, [["kind", "url", "name", ""]]);
    let mut found = 0;
    for (module, path) in modules() {
        for fields in log_lines(&code(&path)) {
            let has = |name: &str| fields.iter().any(|field| field == name);
            assert!(!has("object") && !has("lease"), "{module}: {fields:?}");
            assert!(!has("name") || has("kind") && has("namespace"), "{module}: {fields:?}");
            let is_of_resource = module.starts_with("runtime") || module.starts_with("controller");
            assert!(!has("name") || has("uid") || !is_of_resource, "{module}: {fields:?}");
            found += usize::from(has("name"));
        }
    }
    assert!(found >= 15, "the search finds them: {found}");
}

/// The contract's table: which reasons stand for what in the eyes of kstatus.
const CURRENT: &str = "InSync Unmanaged Overridden Observed";
const IN_PROGRESS: &str = "Drifted Progressing AwaitingWindow AwaitingRollout AwaitingApproval NoGatewaysMatch \
    GatewaysNotReady SecretNotFound SecretKeyMissing ConfigMapNotFound ServerNotFound ServerNotReady Unreachable TimedOut RateLimited \
    UnexpectedAnswer";
const FAILED: &str = "InvalidSpec PlaintextRefused InsecureTlsRefused OriginNotAllowed AddressRefused SecretTypeRefused \
    CaUnusable TlsFailed AuthenticationFailed AdminRoleRequired Forbidden CustomerNotFound AdditionalInfoUnusable \
    VerificationFailed Conflict Contested RolloutHalted";

fn promised(word: &str) -> Option<Kstatus> {
    let listed = |list: &str| list.split_whitespace().any(|w| w == word);
    let table = [(CURRENT, Kstatus::Current), (IN_PROGRESS, Kstatus::InProgress), (FAILED, Kstatus::Failed)];
    table.into_iter().find(|(list, _)| listed(list)).map(|(_, kstatus)| kstatus)
}

#[test]
fn reasons_are_the_contracts_words_and_stand_as_its_table_says() {
    assert_eq!(promised("Whim"), None);
    for &reason in Reason::ALL {
        let word = reason.as_str();
        assert_eq!(promised(word), Some(reason.kstatus()), "{word}");
        assert_eq!(Reason::parse(word), Some(reason), "{word}");
        assert_eq!(format!("{reason:?}"), word);
    }
    let words: BTreeSet<&str> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
    let listed = [CURRENT, IN_PROGRESS, FAILED].join(" ");
    assert_eq!(words, listed.split_whitespace().collect(), "every word of the table, and no other");
    assert_eq!(Reason::parse("insync"), None);
}

#[test]
fn states_are_the_words_of_the_statuses() {
    let words: Vec<&str> = State::ALL.into_iter().map(State::as_str).collect();
    assert_eq!(words, ["inSync", "pending", "drifted", "failed", "overridden", "suspended"]);
    let counts = serde_json::to_value(tenure::crd::GatewayCounts::default()).unwrap();
    for word in words {
        assert!(counts.get(word).is_some(), "gateways.{word} is no field of the status");
    }
}

/// Files of a size that can be read at one go; functions are held short by clippy.
#[test]
fn files_are_short() {
    for file in rust_files(&source()) {
        let text = std::fs::read_to_string(&file).unwrap();
        let without_tests = text.split("#[cfg(test)]").next().unwrap().lines().count();
        assert!(without_tests <= 420, "{} has {without_tests} lines", file.display());
    }
}

/// An unbiased `select!` takes a random branch: a schedule could not be replayed from its seed.
#[test]
fn every_select_is_biased() {
    let mut found = 0;
    for file in rust_files(&source()) {
        let text = std::fs::read_to_string(&file).unwrap();
        for after in text.split("select! {").skip(1) {
            found += 1;
            assert!(after.trim_start().starts_with("biased;"), "{}: {after:.80}", file.display());
        }
    }
    assert!(found >= 10, "the search finds them: {found}");
}
