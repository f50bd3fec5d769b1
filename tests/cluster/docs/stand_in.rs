//! What stands in for the addresses, passwords and patience of the pages.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use tenure_kit::kona::KonaServer;
use tenure_kit::x2::X2Fleet;

/// Each text of the pages, and the one that stands in for it.
pub struct StandIns(Vec<(String, String)>);

/// Where the pages' Kona server is.
const KONA: &str = "https://kona.example.net";
/// Nobody watches a test's canaries for as long.
const SOAKS: [&str; 2] = ["soak: 10m", "soak: 1h"];

impl StandIns {
    /// Those for the addresses in some texts. Each is an appliance of the fleet.
    pub fn new(texts: &str, fleet: &X2Fleet, kona: &KonaServer) -> Self {
        let mut pairs = vec![(KONA.to_owned(), kona.url())];
        let mut appliances = fleet.appliances();
        for address in addresses(texts) {
            let stands_in = if address.contains('/') {
                format!("127.0.0.0/8:{}", fleet.appliance(0).port())
            } else {
                let appliance = appliances.next().expect("the fleet is large enough");
                format!("{}:{}", appliance.address(), appliance.port())
            };
            pairs.push((address.to_owned(), stands_in));
        }
        let mut stand_ins = Self(Vec::new());
        pairs.into_iter().for_each(|(text, stands_in)| stand_ins.add(&text, &stands_in));
        stand_ins
    }

    /// More that stands in for something.
    pub fn add(&mut self, text: &str, stands_in: &str) {
        self.0.push((text.to_owned(), stands_in.to_owned()));
        // A long one may begin with a short one, as NAMESPACE does with NAME.
        self.0.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
    }

    /// A text of the pages as it is used.
    pub fn simulated(&self, text: &str) -> String {
        let text = SOAKS.iter().fold(text.to_owned(), |text, soak| text.replace(soak, "soak: 2s"));
        self.0.iter().fold(text, |text, (documented, simulated)| text.replace(documented, simulated))
    }

    /// What came out, as the pages would show it.
    pub fn documented(&self, text: &str) -> String {
        self.0
            .iter()
            .fold(text.to_owned(), |text, (documented, simulated)| text.replace(simulated, documented))
    }
}

/// The private IPv4 addresses in a text, and blocks of them.
fn addresses(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_digit() && c != '.' && c != '/');
    let words = words.map(|word| word.trim_matches('/'));
    words.filter(|word| word.starts_with("10.") && word.matches('.').count() == 3).collect()
}

/// An example with the password and the CA put where its comments ask for them.
pub fn filled_in(yaml: &str, password: &str, ca: &str) -> String {
    let mut filled = String::new();
    let mut inside = false;
    for line in yaml.replace("replace-me", password).lines() {
        let indent = line.len() - line.trim_start().len();
        if line.trim_start().starts_with("-----BEGIN CERTIFICATE") {
            inside = true;
            for line in ca.lines() {
                writeln!(filled, "{}{line}", " ".repeat(indent)).unwrap();
            }
        }
        if !inside {
            writeln!(filled, "{line}").unwrap();
        }
        inside &= !line.trim_start().starts_with("-----END CERTIFICATE");
    }
    filled
}

#[test]
fn addresses_are_found_wherever_they_stand() {
    let text = "url: https://10.20.0.11\n\"https://10.20.0.0/16, x\" a,10.20.0.12,b 1.2.3.4 v10.1";
    assert_eq!(addresses(text), BTreeSet::from(["10.20.0.0/16", "10.20.0.11", "10.20.0.12"]));
}
