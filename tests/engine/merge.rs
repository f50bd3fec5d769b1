//! How two lifetimes get into a customer's `additionalInfo` with every other byte as it came.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::value::RawValue;
use tenure::crd::TtlSeconds;
use tenure::engine::customer::{
    AdditionalInfo, Original, RawObject, Restoration, Ttl, Unread, Unusable, restoration,
    with_additional_info,
};

const WISH: Ttl = Ttl { access: 3600, refresh: 86_400 };
const WISHED: &str = r#""accessTokenTtlSeconds":3600,"refreshTokenTtlSeconds":86400"#;

fn raw(text: &str) -> Box<RawValue> {
    serde_json::from_str(text).unwrap()
}

/// The customer as it is written after the lifetimes were merged into it.
fn merged(customer: &str, ttl: Ttl) -> Result<String, Unusable> {
    let customer = RawObject::parse(customer).unwrap_or_else(|_| panic!("no JSON object: {customer}"));
    let info = AdditionalInfo::read(customer.get("additionalInfo"))?.merged(ttl);
    Ok(with_additional_info(customer, &info).unwrap().to_json().unwrap().get().to_owned())
}

#[test]
fn every_shape_of_the_field_becomes_an_object() {
    let new = format!(r#"{{"title":"a","additionalInfo":{{{WISHED}}}}}"#);
    for field in [r"null", r#""""#, r#""  ""#, r"{}", r#""{}""#, r#"" { } ""#, " null ", "{ }"] {
        assert_eq!(
            merged(&format!(r#"{{"title":"a","additionalInfo":{field}}}"#), WISH).unwrap(),
            new,
            "{field}"
        );
    }
    assert_eq!(merged(r#"{"title":"a"}"#, WISH).unwrap(), new, "absent: appended");
}

#[test]
fn keys_are_replaced_where_they_stand_and_others_kept() {
    for (info, expected) in [
        (r#"{"a":1}"#, format!(r#"{{"a":1,{WISHED}}}"#)),
        (
            r#"{"refreshTokenTtlSeconds":"x","a":1,"accessTokenTtlSeconds":null}"#,
            r#"{"refreshTokenTtlSeconds":86400,"a":1,"accessTokenTtlSeconds":3600}"#.to_owned(),
        ),
        (r#"{"accessTokenTtlSeconds":{"deep":[1]}}"#, format!("{{{WISHED}}}")),
        (r#""{\"a\":1e400,\"b\":\"\\u00e9\"}""#, format!(r#"{{"a":1e400,"b":"\u00e9",{WISHED}}}"#)),
        (r#"{"a":{"x":1,"x":2}}"#, format!(r#"{{"a":{{"x":1,"x":2}},{WISHED}}}"#)),
        (
            r#"{"AccessTokenTtlSeconds":1,"accessTokenTTLSeconds":2}"#,
            format!(r#"{{"AccessTokenTtlSeconds":1,"accessTokenTTLSeconds":2,{WISHED}}}"#),
        ),
    ] {
        let customer =
            format!(r#"{{"id":{{"id":"x"}},"additionalInfo":{info},"version":12345678901234567890123}}"#);
        let expected =
            format!(r#"{{"id":{{"id":"x"}},"additionalInfo":{expected},"version":12345678901234567890123}}"#);
        assert_eq!(merged(&customer, WISH).unwrap(), expected, "{info}");
    }
}

#[test]
fn what_cannot_hold_lifetimes_is_refused_and_never_overwritten() {
    for (field, why) in [
        (r#""note to self""#, Unusable::FreeText),
        (r#""[1]""#, Unusable::NotAnObject),
        (r#""12""#, Unusable::NotAnObject),
        (r#""null""#, Unusable::NotAnObject),
        (r#""{broken""#, Unusable::FreeText),
        (r#""{\"a\":1} and more""#, Unusable::FreeText),
        (r#""<b>{}</b>""#, Unusable::FreeText),
        ("12", Unusable::NotAnObject),
        ("true", Unusable::NotAnObject),
        ("false", Unusable::NotAnObject),
        ("[]", Unusable::NotAnObject),
        (r#"[{"accessTokenTtlSeconds":1}]"#, Unusable::NotAnObject),
        (r#"{"a":1,"a":2}"#, Unusable::DuplicateKey),
        (r#"{"a":1,"\u0061":2}"#, Unusable::DuplicateKey),
        (r#""{\"a\":1,\"a\":1}""#, Unusable::DuplicateKey),
        (r#"{"accessTokenTtlSeconds":1,"accessTokenTtlSeconds":1}"#, Unusable::DuplicateKey),
    ] {
        assert_eq!(AdditionalInfo::read(Some(&raw(field))).unwrap_err(), why, "{field}");
        assert!(!why.to_string().is_empty());
    }
}

#[test]
fn a_customer_with_a_key_that_stands_twice_is_not_read() {
    for text in [r#"{"id":1,"id":2}"#, "[]", "1", "", "{", r#"{"a":1}x"#, r#"{"a":01}"#, "null"] {
        assert!(RawObject::parse(text).is_err(), "{text}");
    }
}

#[test]
fn an_object_with_more_keys_than_anyone_needs_is_not_read_and_what_is_written_can_be() {
    let object = |keys: usize| {
        let keys: Vec<String> = (0..keys).map(|key| format!(r#""{key}":1"#)).collect();
        format!("{{{}}}", keys.join(","))
    };
    let info = |text: &str| AdditionalInfo::read(Some(&raw(text)));
    for keys in [4_097, 4_098, 4_099, 130_000] {
        assert_eq!(info(&object(keys)).unwrap_err(), Unusable::TooManyKeys, "{keys}");
    }
    assert_eq!(RawObject::parse(&object(130_000)).unwrap_err(), Unread::TooManyKeys);
    let merged = info(&object(4_096)).unwrap().merged(Ttl { access: 600, refresh: 600 }).to_json().unwrap();
    assert!(info(merged.get()).unwrap().ttl().access_token_ttl_seconds == Some(600));
}

#[test]
fn lifetimes_are_read_where_they_are_whole_numbers() {
    let seconds = |text: &str| AdditionalInfo::read(Some(&raw(text))).unwrap().ttl();
    for (value, expected) in [
        ("3600", Some(3600)),
        ("0", Some(0)),
        ("4294967295", Some(u32::MAX)),
        ("4294967296", None),
        ("12345678901234567890123", None),
        ("-1", None),
        ("3600.0", None),
        ("3.6e3", None),
        (r#""3600""#, None),
        ("null", None),
        ("[3600]", None),
    ] {
        let read = seconds(&format!(r#"{{"accessTokenTtlSeconds": {value} }}"#));
        assert_eq!(
            (read.access_token_ttl_seconds, read.refresh_token_ttl_seconds),
            (expected, None),
            "{value}"
        );
    }
    let both = seconds(r#""{\"refreshTokenTtlSeconds\":7,\"accessTokenTtlSeconds\":6}""#);
    assert_eq!(both, TtlSeconds { access_token_ttl_seconds: Some(6), refresh_token_ttl_seconds: Some(7) });
}

#[test]
fn the_original_is_kept_as_it_was_written() {
    let original = |text: &str| AdditionalInfo::read(Some(&raw(text))).unwrap().original();
    assert_eq!(original(r#"{"a":1}"#), BTreeMap::new(), "no entry: was absent");
    let kept = original(r#"{"accessTokenTtlSeconds":7.20e3,"refreshTokenTtlSeconds":{"x": 1}}"#);
    assert_eq!(kept["accessTokenTtlSeconds"], "7.20e3");
    assert_eq!(kept["refreshTokenTtlSeconds"], r#"{"x": 1}"#);
}

/// A JSON value, as text: with numbers that no float holds, escapes, and white space of all kinds.
fn json() -> impl Strategy<Value = String> {
    let number = proptest::sample::select(vec![
        "0",
        "-0",
        "1.10",
        "1e400",
        "-1E-400",
        "12345678901234567890123",
        "0.1000000000000000055511151231257827",
    ]);
    let leaf = prop_oneof![
        number.prop_map(str::to_owned),
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just(r#""\u00e9\/\ud83d\ude00""#.to_owned()),
        any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
        any::<f64>().prop_filter("JSON has no such number", |n| n.is_finite()).prop_map(|n| n.to_string()),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let space = proptest::sample::select(vec!["", " ", "\n\t", "\r\n  "]);
        prop_oneof![
            (proptest::collection::vec(inner.clone(), 0..4), space.clone()).prop_map(
                |(items, space)| format!("[{space}{}{space}]", items.join(&format!("{space},{space}")))
            ),
            (proptest::collection::vec((any::<String>(), inner), 0..4), space).prop_map(
                |(entries, space)| {
                    let entries =
                        entries.into_iter().map(|(k, v)| format!("{}{space}:{space}{v}", string(&k)));
                    format!("{{{space}{}{space}}}", entries.collect::<Vec<_>>().join(","))
                }
            ),
        ]
    })
}

fn string(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

/// Fields of an object that are not ours, each key once.
fn foreign() -> impl Strategy<Value = Vec<(String, String)>> {
    let ours = ["additionalInfo", "accessTokenTtlSeconds", "refreshTokenTtlSeconds"];
    let key = any::<String>().prop_filter("not one of ours", move |key| !ours.contains(&key.as_str()));
    let map = proptest::collection::btree_map(key, json(), 0..6);
    map.prop_map(|map| map.into_iter().collect::<Vec<_>>()).prop_shuffle()
}

/// An object as our side writes it: no space but within the values.
fn object(fields: &[(String, String)]) -> String {
    let fields: Vec<_> = fields.iter().map(|(key, value)| format!("{}:{value}", string(key))).collect();
    format!("{{{}}}", fields.join(","))
}

proptest! {
    #[test]
    fn what_is_not_ours_comes_back_byte_for_byte(
        before in foreign(), after in foreign(), info in foreign(), as_text: bool, access: u32, refresh: u32,
        present in 0..4_u8, old in json(),
    ) {
        let after: Vec<_> = after.into_iter().filter(|(key, _)| before.iter().all(|(other, _)| other != key)).collect();
        let mut held = info.clone();
        let mut wanted = info;
        for (bit, key, seconds) in [(1, "accessTokenTtlSeconds", access), (2, "refreshTokenTtlSeconds", refresh)] {
            let at = wanted.len() / 2;
            if present & bit == bit {
                held.insert(at, (key.to_owned(), old.clone()));
                wanted.insert(at, (key.to_owned(), seconds.to_string()));
            }
        }
        for (bit, key, seconds) in [(1, "accessTokenTtlSeconds", access), (2, "refreshTokenTtlSeconds", refresh)] {
            if present & bit == 0 {
                wanted.push((key.to_owned(), seconds.to_string()));
            }
        }
        let field = if as_text { string(&object(&held)) } else { object(&held) };
        let whole = |info: String| {
            let ours = [("additionalInfo".to_owned(), info)];
            object(&[before.as_slice(), &ours, after.as_slice()].concat())
        };
        let ttl = Ttl { access, refresh };
        let written = merged(&whole(field), ttl).unwrap();
        prop_assert_eq!(&written, &whole(object(&wanted)));
        prop_assert_eq!(&merged(&written, ttl).unwrap(), &written, "doing it again changes nothing");
        let read = RawObject::parse(&written).unwrap();
        let read = AdditionalInfo::read(read.get("additionalInfo")).unwrap().ttl();
        let both = TtlSeconds { access_token_ttl_seconds: Some(access), refresh_token_ttl_seconds: Some(refresh) };
        prop_assert_eq!(read, both);
    }

    #[test]
    fn any_text_is_read_or_refused(field in json(), text in "\\PC{0,40}") {
        let _any = AdditionalInfo::read(Some(&raw(&field))).map(|info| info.merged(WISH).to_json().unwrap());
        let in_text = AdditionalInfo::read(Some(&raw(&string(&text))));
        let is_object = text.trim_start().starts_with('{');
        prop_assert!(is_object || text.trim().is_empty() || in_text.is_err(), "free text is never overwritten");
        let _any = RawObject::parse(&text);
    }
}

/// The customer as it is written after its keys were put back.
fn restored(customer: &str, original: &Original) -> String {
    let customer = RawObject::parse(customer).unwrap();
    let info = AdditionalInfo::read(customer.get("additionalInfo")).unwrap().restored(original).unwrap();
    with_additional_info(customer, &info).unwrap().to_json().unwrap().get().to_owned()
}

fn original(entries: &[(&str, &str)]) -> Original {
    entries.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect()
}

#[test]
fn keys_are_put_back_as_they_were_written_or_taken_out() {
    let access = ("accessTokenTtlSeconds", r#"{"x": 1}"#);
    let refresh = ("refreshTokenTtlSeconds", "1.10");
    for (entries, info, expected) in [
        (vec![], format!("{{{WISHED}}}"), "{}".to_owned()),
        (vec![], format!(r#"{{"a":1,{WISHED},"b":2}}"#), r#"{"a":1,"b":2}"#.to_owned()),
        (
            vec![refresh],
            format!(r#"{{{WISHED},"a":1}}"#),
            r#"{"refreshTokenTtlSeconds":1.10,"a":1}"#.to_owned(),
        ),
        (
            vec![access, refresh],
            format!(r#"{{"a":1,{WISHED}}}"#),
            r#"{"a":1,"accessTokenTtlSeconds":{"x": 1},"refreshTokenTtlSeconds":1.10}"#.to_owned(),
        ),
    ] {
        let whole = |info: &str| format!(r#"{{"title":"a","additionalInfo":{info},"zip":1}}"#);
        assert_eq!(restored(&whole(&info), &original(&entries)), whole(&expected), "{entries:?} in {info}");
    }
    let info = AdditionalInfo::default();
    assert!(info.restored(&original(&[("accessTokenTtlSeconds", "no JSON")])).is_none());
}

#[test]
fn only_what_we_wrote_is_put_back() {
    let before = original(&[("accessTokenTtlSeconds", "7.2e3")]);
    let written = [TtlSeconds::from(WISH)];
    for (info, expected) in [
        (format!("{{{WISHED}}}"), Restoration::Restore),
        (format!(r#"{{"theirs":1,{WISHED}}}"#), Restoration::Restore),
        (r#"{"accessTokenTtlSeconds":7.2e3}"#.to_owned(), Restoration::AsBefore),
        (r#"{"accessTokenTtlSeconds":7200.0}"#.to_owned(), Restoration::AsBefore),
        (r#"{"accessTokenTtlSeconds":"7.2e3"}"#.to_owned(), Restoration::Foreign),
        (r#"{"accessTokenTtlSeconds":3600}"#.to_owned(), Restoration::Foreign),
        (r#"{"accessTokenTtlSeconds":3601,"refreshTokenTtlSeconds":86400}"#.to_owned(), Restoration::Foreign),
        ("{}".to_owned(), Restoration::Foreign),
    ] {
        let read = AdditionalInfo::read(Some(&raw(&info))).unwrap();
        assert_eq!(restoration(&read, &written, &before), expected, "{info}");
        let nothing_written = restoration(&read, &[], &before);
        assert_eq!(nothing_written == Restoration::AsBefore, expected == Restoration::AsBefore, "{info}");
    }
    // The same number in another spelling is put back in its own.
    let spelt = original(&[("accessTokenTtlSeconds", "3600.0"), ("refreshTokenTtlSeconds", "86400")]);
    let read = AdditionalInfo::read(Some(&raw(&format!("{{{WISHED}}}")))).unwrap();
    assert_eq!(restoration(&read, &written, &spelt), Restoration::Restore);
}

proptest! {
    #[test]
    fn what_was_written_can_be_undone(
        info in foreign(), present in 0..4_u8, old in json(), later in foreign(), access: u32, refresh: u32,
    ) {
        let ours = [(1, "accessTokenTtlSeconds"), (2, "refreshTokenTtlSeconds")];
        let mut held = info;
        for (_, key) in ours.iter().filter(|(bit, _)| present & bit == *bit) {
            held.insert(held.len() / 2, ((*key).to_owned(), old.clone()));
        }
        let ttl = Ttl { access, refresh };
        let whole = |info: &str| object(&[("title".to_owned(), "1.10".to_owned()), ("additionalInfo".to_owned(), info.to_owned())]);
        let before = whole(&object(&held));
        let read = RawObject::parse(&before).unwrap();
        let known = AdditionalInfo::read(read.get("additionalInfo")).unwrap().original();
        let written = merged(&before, ttl).unwrap();
        prop_assert_eq!(&restored(&written, &known), &before, "byte for byte");
        prop_assert_eq!(&restored(&before, &known), &before, "doing it again changes nothing");
        let info = |whole: &str| AdditionalInfo::read(RawObject::parse(whole).unwrap().get("additionalInfo")).unwrap();
        prop_assert!(info(&before).is_as(&known));
        prop_assert_eq!(restoration(&info(&before), &[ttl.into()], &known), Restoration::AsBefore);
        if info(&written).original() != known {
            prop_assert_eq!(restoration(&info(&written), &[ttl.into()], &known), Restoration::Restore);
        }
        // What others add meanwhile stays as they wrote it.
        let mut grown = AdditionalInfo::read(Some(&raw(&object(&held)))).unwrap().merged(ttl).to_json().unwrap().get().to_owned();
        let theirs: Vec<_> = later.into_iter().filter(|(key, _)| held.iter().all(|(other, _)| other != key)).collect();
        if !theirs.is_empty() {
            grown = format!("{},{}", grown.strip_suffix('}').unwrap(), object(&theirs).strip_prefix('{').unwrap());
            let mut expected = held;
            expected.extend(theirs);
            prop_assert_eq!(restored(&whole(&grown), &known), whole(&object(&expected)));
        }
    }
}

#[test]
fn depth_and_length_are_borne() {
    let deep = format!(r#"{{"a":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    let customer = format!(r#"{{"additionalInfo":{deep}}}"#);
    // Either is fine, as long as it ends well: what is nested this deep is kept or refused.
    if let Ok(customer) = RawObject::parse(&customer) {
        let info = AdditionalInfo::read(customer.get("additionalInfo")).unwrap().merged(WISH);
        assert!(info.to_json().unwrap().get().starts_with(r#"{"a":[[["#));
    }
}
