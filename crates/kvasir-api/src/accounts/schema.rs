//! Declarative validation: what each body must hold, and naming every fault at once.
//!
//! A schema is a list of [`Rule`]s. [`check`] walks it and reports faults the way the article's
//! validator does: `{path, code, message}`, all of them together. Unknown members are ignored.

use serde_json::{Map, Value, json};

use super::error::Fault;
use crate::error::ApiError;

/// One member of a body.
pub(super) struct Rule {
    pub(super) member: &'static str,
    pub(super) is_required: bool,
    pub(super) kind: Kind,
}

/// What a member must be.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// An email address.
    Email,
    /// Text of so many characters.
    Text { min: usize, max: usize },
    /// An integer in a range.
    Integer { min: u64, max: u64 },
    /// A list of objects that follow a schema of their own.
    List {
        min: usize,
        max: usize,
        of: &'static [Rule],
    },
}

pub(super) const fn required(member: &'static str, kind: Kind) -> Rule {
    Rule {
        member,
        is_required: true,
        kind,
    }
}

pub(super) const fn optional(member: &'static str, kind: Kind) -> Rule {
    Rule {
        member,
        is_required: false,
        kind,
    }
}

/// Longest email, in bytes: the longest path of RFC 5321 without its brackets.
const EMAIL_BYTES_MAX: usize = 254;

/// Longest part of an email before the `@`, in bytes (RFC 5321).
const LOCAL_BYTES_MAX: usize = 64;

/// Checks a body against its schema.
///
/// # Errors
///
/// 400 with every fault in the error's data.
pub(super) fn check(body: &Value, schema: &[Rule]) -> Result<(), ApiError> {
    let mut faults = Vec::new();
    match body.as_object() {
        None => fault(&mut faults, &[], "invalid_type", "Expected an object"),
        Some(object) => check_object(object, schema, &mut Vec::new(), &mut faults),
    }
    if faults.is_empty() {
        return Ok(());
    }
    Err(ApiError::bad_request("the body is not valid")
        .with_code("invalid_body")
        .with_data(json!({ "errors": faults })))
}

fn fault(faults: &mut Vec<Fault>, path: &[Value], code: &'static str, message: impl Into<String>) {
    faults.push(Fault {
        path: path.to_vec(),
        code,
        message: message.into(),
    });
}

fn check_object(
    object: &Map<String, Value>,
    schema: &[Rule],
    path: &mut Vec<Value>,
    faults: &mut Vec<Fault>,
) {
    for rule in schema {
        path.push(json!(rule.member));
        match object.get(rule.member) {
            None if rule.is_required => fault(faults, path, "invalid_type", "Required"),
            None => {}
            Some(value) => check_value(value, rule.kind, path, faults),
        }
        path.pop();
    }
}

fn check_value(value: &Value, kind: Kind, path: &mut Vec<Value>, faults: &mut Vec<Fault>) {
    match (kind, value) {
        (Kind::Email, Value::String(text)) => {
            if normalised_email(text).is_none() {
                fault(faults, path, "invalid_string", "Invalid email");
            }
        }
        (Kind::Text { min, max }, Value::String(text)) => {
            let length = text.chars().count();
            if length < min {
                let message = format!("String must contain at least {min} character(s)");
                fault(faults, path, "too_small", message);
            } else if length > max {
                let message = format!("String must contain at most {max} character(s)");
                fault(faults, path, "too_big", message);
            }
        }
        (Kind::Integer { min, max }, Value::Number(number)) => match number.as_u64() {
            Some(integer) if integer < min => {
                let message = format!("Number must be greater than or equal to {min}");
                fault(faults, path, "too_small", message);
            }
            Some(integer) if integer > max => {
                let message = format!("Number must be less than or equal to {max}");
                fault(faults, path, "too_big", message);
            }
            Some(_) => {}
            None if number.as_f64().is_some_and(|number| number < 0.0) => {
                let message = format!("Number must be greater than or equal to {min}");
                fault(faults, path, "too_small", message);
            }
            None => fault(
                faults,
                path,
                "invalid_type",
                "Expected integer, received float",
            ),
        },
        (Kind::List { min, max, of }, Value::Array(items)) => {
            if items.len() < min {
                let message = format!("Array must contain at least {min} element(s)");
                fault(faults, path, "too_small", message);
            } else if items.len() > max {
                let message = format!("Array must contain at most {max} element(s)");
                fault(faults, path, "too_big", message);
                return;
            }
            for (place, item) in items.iter().enumerate() {
                path.push(json!(place));
                match item.as_object() {
                    Some(object) => check_object(object, of, path, faults),
                    None => fault(faults, path, "invalid_type", "Expected an object"),
                }
                path.pop();
            }
        }
        (kind, _) => {
            let message = format!("Expected {}, received {}", expected(kind), received(value));
            fault(faults, path, "invalid_type", message);
        }
    }
}

fn expected(kind: Kind) -> &'static str {
    match kind {
        Kind::Email | Kind::Text { .. } => "string",
        Kind::Integer { .. } => "number",
        Kind::List { .. } => "array",
    }
}

fn received(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// The email in the form in which it is stored and compared: surrounding blanks gone, lower case.
/// `None` if the text is no email.
pub(super) fn normalised_email(text: &str) -> Option<String> {
    let email = text.trim().to_lowercase();
    let (local, domain) = email.rsplit_once('@')?;
    let allowed = |byte: u8| byte > b' ' && byte != 0x7f && !b"\"(),:;<>[\\]@".contains(&byte);
    let local_fits = (1..=LOCAL_BYTES_MAX).contains(&local.len())
        && local.bytes().all(allowed)
        && !local.starts_with('.')
        && !local.ends_with('.')
        && !local.contains("..");
    let label_fits = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .chars()
                .all(|char| char.is_alphanumeric() || char == '-')
    };
    let domain_fits = domain.contains('.') && domain.split('.').all(label_fits);
    (local_fits && domain_fits && email.len() <= EMAIL_BYTES_MAX).then_some(email)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn emails_are_compared_without_case_and_surrounding_blanks() {
        assert_eq!(
            normalised_email(" Alex@Example.COM "),
            Some("alex@example.com".into())
        );
        assert_eq!(
            normalised_email("a.b+c@sub.example.org"),
            Some("a.b+c@sub.example.org".into())
        );
        for bad in [
            "",
            "a",
            "@",
            "a@",
            "@b.c",
            "a@b",
            "a@b..c",
            "a b@c.d",
            ".a@b.c",
            "a.@b.c",
            "a..b@c.d",
            "a@-b.c",
            "a@b-.c",
            "a@b.c\n@d.e f",
            "a\0@b.c",
            &format!("{}@b.c", "x".repeat(65)),
            &format!("a@{}.c", "x".repeat(64)),
        ] {
            assert_eq!(normalised_email(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn every_fault_is_named_with_its_path() {
        const ITEM: &[Rule] = &[required("n", Kind::Integer { min: 1, max: 9 })];
        const SCHEMA: &[Rule] = &[
            required("email", Kind::Email),
            required("password", Kind::Text { min: 8, max: 256 }),
            optional("name", Kind::Text { min: 0, max: 3 }),
            required(
                "items",
                Kind::List {
                    min: 1,
                    max: 2,
                    of: ITEM,
                },
            ),
        ];
        let body = json!({
            "email": "no", "name": "long", "items": [{"n": 0}, {"n": 1.5}], "unknown": true
        });
        let error = check(&body, SCHEMA).unwrap_err();
        let errors = &error.data().unwrap()["errors"];
        assert_eq!(
            *errors,
            json!([
                {"path": ["email"], "code": "invalid_string", "message": "Invalid email"},
                {"path": ["password"], "code": "invalid_type", "message": "Required"},
                {"path": ["name"], "code": "too_big", "message": "String must contain at most 3 character(s)"},
                {"path": ["items", 0, "n"], "code": "too_small", "message": "Number must be greater than or equal to 1"},
                {"path": ["items", 1, "n"], "code": "invalid_type", "message": "Expected integer, received float"},
            ])
        );
    }
}
