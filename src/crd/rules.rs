//! CEL rules of the schemas. Each comes with the sentence that a refused manifest is answered with.
//!
//! Only `matches`, `size`, `has`, `duration` and comparisons are used, so that any CEL implementation agrees.

use serde_json::{Value, json};

const HOST: &str = r"([a-zA-Z0-9]([a-zA-Z0-9._-]*[a-zA-Z0-9])?[.]?|\\[[0-9a-fA-F:.]+\\])";
const PORT: &str =
    "(:([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?";

const MINUTE: &str = "[0-5]?[0-9]";
const HOUR: &str = "([01]?[0-9]|2[0-3])";
const DAY_OF_MONTH: &str = "(0?[1-9]|[12][0-9]|3[01])";
const MONTH: &str = "(0?[1-9]|1[0-2]|(?i:JAN|FEB|MAR|APR|MAY|JUN|JUL|AUG|SEP|OCT|NOV|DEC))";
const DAY_OF_WEEK: &str = "(0?[0-7]|(?i:SUN|MON|TUE|WED|THU|FRI|SAT))";

const LABEL_KEY: &str = "^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[a-zA-Z0-9]([-_.a-zA-Z0-9]*[a-zA-Z0-9])?$";
const LABEL_KEY_MESSAGE: &str = "must be a label's key, such as site or example.net/site";
const LABEL_VALUE: &str = "^([a-zA-Z0-9]([-_.a-zA-Z0-9]*[a-zA-Z0-9])?)?$";
const LABEL_VALUE_MESSAGE: &str =
    "must be a label's value: letters, digits, '-', '_' and '.', with a letter or a digit at both ends";

fn rule(rule: &str, message: &str) -> Value {
    json!({"rule": rule, "message": message})
}

fn matches(regex: &str, message: &str) -> Value {
    json!([rule(&format!("self.matches('{regex}')"), message)])
}

pub(super) fn url() -> Value {
    matches(
        &format!(r"^https?://{HOST}{PORT}(/[a-zA-Z0-9._~%!$&()*+,;=:/-]*)?$"),
        "must be a base URL such as https://10.20.0.11; port and path prefix are allowed, user info, query and fragment \
         are not",
    )
}

pub(super) fn proxy_url() -> Value {
    matches(
        &format!("^https?://{HOST}{PORT}/?$"),
        "must be scheme, host and port of a proxy, such as http://proxy.example:3128, without a user name",
    )
}

pub(super) fn object_name() -> Value {
    matches(
        "^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
        "must be the name of an object in this namespace: lower-case letters, digits, '-' and '.'",
    )
}

pub(super) fn data_key() -> Value {
    matches("^[-._a-zA-Z0-9]+$", "must be a key of the object's data: letters, digits, '-', '_' and '.'")
}

/// A name, never an address: where it ends in a number, a URL that carries it would be read as an address.
pub(super) fn server_name() -> Value {
    json!([rule(
        "self.matches('^[a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?([.][a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?)*$') && \
         !self.matches('(^|[.])([0-9]+|0[xX][0-9a-fA-F]*)$')",
        "must be a host name from the certificate, such as x2.example.net, not an IP address"
    )])
}

pub(super) fn one_ca() -> Value {
    json!([rule(
        "!(has(self.caSecretRef) && has(self.caConfigMapRef))",
        "specify either caSecretRef or caConfigMapRef, not both"
    )])
}

/// A duration such as `90s` or `1h30m` between `least` and `most`, both included.
pub(super) fn duration(least: &str, most: &str, example: &str) -> Value {
    json!([rule(
        &format!(
            "size(self) > 0 && self.matches('^([0-9]{{1,5}}h)?([0-9]{{1,5}}m)?([0-9]{{1,5}}s)?$') && duration(self) >= \
             duration('{least}') && duration(self) <= duration('{most}')"
        ),
        &format!(
            "must be a duration between {least} and {most} in hours, minutes and seconds, such as {example}"
        )
    )])
}

/// The five fields of a cron schedule. That a range runs upwards, and that the day exists, is left to the engine.
pub(super) fn cron() -> Value {
    let field = |value: &str| {
        let part = format!("([*]|{value}(-{value})?)(/0{{0,2}}[1-9][0-9]{{0,2}})?");
        format!("{part}(,{part})*")
    };
    let fields = [MINUTE, HOUR, DAY_OF_MONTH, MONTH, DAY_OF_WEEK].map(field).join(" ");
    matches(
        &format!("^{fields}$"),
        "must be the five fields of a cron schedule – minute, hour, day of month, month, day of week – with single spaces \
         between them, such as 0 22 * * SAT or */30 1-5 * JAN-MAR 1,3; names such as @daily and the letters L, W, # and ? \
         are not supported; set the time zone in timeZone",
    )
}

pub(super) fn time_zone() -> Value {
    matches(
        "^[a-zA-Z][a-zA-Z0-9_+-]*(/[a-zA-Z0-9_+-]+)*$",
        "must be a time zone name from the IANA database, such as Europe/Berlin or UTC",
    )
}

pub(super) fn label_key() -> Value {
    matches(LABEL_KEY, LABEL_KEY_MESSAGE)
}

pub(super) fn label_keys() -> Value {
    json!([rule(&format!("self.all(key, key.matches('{LABEL_KEY}'))"), LABEL_KEY_MESSAGE)])
}

pub(super) fn label_values() -> Value {
    json!([rule(&format!("self.all(value, value.matches('{LABEL_VALUE}'))"), LABEL_VALUE_MESSAGE)])
}

/// The schema of a label's value in a map, which has no place for attributes of its own.
pub(super) fn label_value_schema() -> Value {
    json!({"type": "string", "maxLength": 63, "x-kubernetes-validations": matches(LABEL_VALUE, LABEL_VALUE_MESSAGE)})
}

pub(super) fn selector() -> Value {
    json!([rule(
        "!has(self.matchExpressions) || self.matchExpressions.all(e, e.operator in ['In', 'NotIn'] ? has(e.values) && \
         size(e.values) > 0 : !has(e.values) || size(e.values) == 0)",
        "In and NotIn need at least one entry in values; Exists and DoesNotExist take none"
    )])
}

pub(super) fn exact_or_range() -> Value {
    json!([
        rule(
            "has(self.timeoutSeconds) ? !has(self.minTimeoutSeconds) && !has(self.maxTimeoutSeconds) : \
             has(self.minTimeoutSeconds) || has(self.maxTimeoutSeconds)",
            "specify either timeoutSeconds (exactly this lifetime), or minTimeoutSeconds, maxTimeoutSeconds or both (a range)"
        ),
        rule(
            "!has(self.minTimeoutSeconds) || !has(self.maxTimeoutSeconds) || self.minTimeoutSeconds <= \
             self.maxTimeoutSeconds",
            "minTimeoutSeconds must not be greater than maxTimeoutSeconds"
        )
    ])
}

pub(super) fn access_within_refresh() -> Value {
    json!([rule(
        "self.accessTokenTtlSeconds <= self.refreshTokenTtlSeconds",
        "accessTokenTtlSeconds must not be greater than refreshTokenTtlSeconds"
    )])
}

pub(super) fn immutable(what: &str) -> Value {
    json!([rule(
        "self == oldSelf",
        &format!("{what} is immutable: delete this resource and create another one")
    )])
}

pub(super) fn customer_id() -> Value {
    let form = matches(
        "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$",
        "must be the customer's id, a lower-case UUID such as 1d2b7a10-0f2c-11ee-be56-0242ac120002",
    );
    let mut rules = immutable("customerId").as_array().cloned().unwrap_or_default();
    rules.extend(form.as_array().cloned().unwrap_or_default());
    Value::Array(rules)
}

/// Takes part in [`number_or_percent`]: `0%` to `100%`.
const PERCENT: &str = "^(100|[1-9]?[0-9])%$";

pub(super) fn number_or_percent() -> Value {
    json!([rule(
        &format!("type(self) == int ? self >= 0 && self <= 100000 : self.matches('{PERCENT}')"),
        "must be a number of gateways, such as 3, or a percentage, such as 5%"
    )])
}

pub(super) fn at_least_one_or_percent() -> Value {
    json!([rule(
        &format!(
            "type(self) == int ? self >= 1 && self <= 100000 : self.matches('{PERCENT}') && self != '0%'"
        ),
        "must be a number of gateways (at least 1), such as 10, or a percentage (at least 1%), such as 10%"
    )])
}

pub(super) fn one_canary() -> Value {
    json!([rule(
        "has(self.count) != has(self.selector)",
        "specify either count (the first gateways by name) or selector (gateways by label)"
    )])
}
