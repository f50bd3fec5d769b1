//! The two text formats of Prometheus. The library writes `OpenMetrics`; readers of the older format do not understand it.

use std::collections::HashMap;

/// A text format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Format {
    /// `OpenMetrics` 1.0.0.
    OpenMetrics,
    /// The text format of Prometheus, version 0.0.4.
    Prometheus,
}

impl Format {
    /// The format that a client prefers, by its header `Accept`. One that does not name `OpenMetrics` may not understand it.
    #[must_use]
    pub(crate) fn accepted(accept: &str) -> Self {
        let (open, plain) = (weight(accept, "application/openmetrics-text"), weight(accept, "text/plain"));
        if open > 0.0 && open >= plain { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// The header `Content-Type`.
    #[must_use]
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// The weight of a media type in a header `Accept`, from 0 to 1; 0 if it is not named.
fn weight(accept: &str, media_type: &str) -> f32 {
    let weights = accept.split(',').filter_map(|range| {
        let mut parts = range.split(';').map(str::trim);
        let is_named = parts.next()?.eq_ignore_ascii_case(media_type);
        let weight = parts.find_map(|parameter| parameter.strip_prefix("q=")?.parse().ok()).unwrap_or(1.0);
        is_named.then_some(weight)
    });
    weights.fold(0.0, f32::max)
}

/// Rewrites `OpenMetrics` as text of version 0.0.4: there, counters and infos are described under the full names of their
/// samples, an info is a gauge, and there is no end mark.
pub(super) fn prometheus(text: &str) -> String {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let types: HashMap<&str, &str> = types.collect();
    let mut rewritten = String::with_capacity(text.len());
    for line in text.lines().filter(|line| *line != "# EOF" && !line.starts_with("# UNIT ")) {
        let described =
            ["# HELP ", "# TYPE "].into_iter().find_map(|mark| Some((mark, line.strip_prefix(mark)?)));
        if let Some((mark, (name, rest))) =
            described.and_then(|(mark, rest)| Some((mark, rest.split_once(' ')?)))
        {
            let (suffix, rest) = match (types.get(name).copied().unwrap_or_default(), mark, rest) {
                ("counter", _, rest) => ("_total", rest),
                ("info", "# TYPE ", _) => ("_info", "gauge"),
                ("info", _, rest) => ("_info", rest),
                ("unknown", "# TYPE ", _) => ("", "untyped"),
                (_, _, rest) => ("", rest),
            };
            rewritten.extend([mark, name, suffix, " ", rest]);
        } else {
            rewritten.push_str(line);
        }
        rewritten.push('\n');
    }
    rewritten
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_gets_the_format_that_it_names() {
        let prometheus =
            "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
        assert_eq!(Format::accepted(prometheus), Format::OpenMetrics);
        for accept in [
            "",
            "*/*",
            "text/plain",
            "text/plain, application/openmetrics-text;q=0.1",
            "application/openmetrics-text; q=0",
        ] {
            assert_eq!(Format::accepted(accept), Format::Prometheus, "{accept}");
        }
    }

    #[test]
    fn the_older_format_describes_samples_by_their_full_names() {
        let open = "# HELP a_build The version.\n# TYPE a_build info\na_build_info{version=\"1\"} 1\n\
            # HELP a_tries Tries.\n# TYPE a_tries counter\n# UNIT a_tries tries\na_tries_total 3\n\
            # HELP a_leader Leader.\n# TYPE a_leader gauge\na_leader 1\n# EOF\n";
        let plain = "# HELP a_build_info The version.\n# TYPE a_build_info gauge\na_build_info{version=\"1\"} 1\n\
            # HELP a_tries_total Tries.\n# TYPE a_tries_total counter\na_tries_total 3\n\
            # HELP a_leader Leader.\n# TYPE a_leader gauge\na_leader 1\n";
        assert_eq!(prometheus(open), plain);
    }
}
