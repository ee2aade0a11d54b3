//! What a rule asks of an answer: its status and its fields.
use super::Value;
use std::fmt;

/// All of it must hold. Without anything it matches every answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AnswerMatcher {
    /// Statuses, from and to: one of these. Empty: any.
    pub status: Vec<(u16, u16)>,
    /// Header fields by lower-case name: the first value of each.
    pub fields: Vec<(String, Value)>,
    /// None of these matches.
    pub not: Vec<Self>,
}

impl AnswerMatcher {
    /// Whether it is for an answer with this status and these fields, which are looked up by lower-case name.
    pub fn matches<'a>(&self, status: u16, field: &dyn Fn(&str) -> Option<&'a [u8]>) -> bool {
        (self.status.is_empty() || self.status.iter().any(|(from, to)| (*from..=*to).contains(&status)))
            && self.fields.iter().all(|(name, value)| value.holds(field(name)))
            && !self.not.iter().any(|other| other.matches(status, field))
    }
}

/// `404-404|500-599 and content-type: like /html/ and not (age: any)`
impl fmt::Display for AnswerMatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if !self.status.is_empty() {
            let all: Vec<_> = self.status.iter().map(|(from, to)| format!("{from}-{to}")).collect();
            parts.push(all.join("|"));
        }
        parts.extend(self.fields.iter().map(|(name, value)| format!("{name}: {value}")));
        if !self.not.is_empty() {
            let all: Vec<_> = self.not.iter().map(|not| format!("({not})")).collect();
            parts.push(format!("not {}", all.join(" nor ")));
        }
        f.write_str(&parts.join(" and "))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Pattern;
    use super::*;

    #[test]
    fn an_answer_is_asked_for_its_status_and_its_fields() {
        let like = |text| Value::Like(Pattern::new(text).expect("a pattern"));
        let html = ("content-type".to_owned(), like("^text/html"));
        let rule = AnswerMatcher {
            status: vec![(200, 299), (404, 404)],
            fields: vec![html],
            not: vec![AnswerMatcher { fields: vec![("age".into(), Value::Any)], ..AnswerMatcher::default() }],
        };
        let fields = |kind: &'static str, age: Option<&'static str>| {
            move |name: &str| match name {
                "content-type" => Some(kind.as_bytes()),
                "age" => age.map(str::as_bytes),
                _ => None,
            }
        };
        assert!(rule.matches(404, &fields("text/html; charset=utf-8", None)));
        assert!(!rule.matches(500, &fields("text/html", None)), "another status");
        assert!(!rule.matches(200, &fields("image/png", None)), "another type");
        assert!(!rule.matches(200, &fields("text/html", Some("3"))), "what must not be there");
        assert!(AnswerMatcher::default().matches(101, &|_| None));
        assert_eq!(rule.to_string(), "200-299|404-404 and content-type: like /^text/html/ and not (age: any)");
    }
}
