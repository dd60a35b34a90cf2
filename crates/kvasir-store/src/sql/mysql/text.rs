//! Texts of statements: constants, digits and `x'…'` literals, nothing else.

use std::fmt::Write as _;

use data_encoding::HEXLOWER;

/// Bytes after which a statement of many rows is split. `max_allowed_packet` is 16 MiB on MariaDB.
const STATEMENT_BYTES: usize = 4 * 1024 * 1024;

/// The text of a statement, made of constants, numbers and byte literals only.
pub(super) struct Text(String);

impl Text {
    pub(super) fn new(sql: &'static str) -> Text {
        Text(sql.to_owned())
    }

    pub(super) fn sql(&mut self, sql: &'static str) -> &mut Text {
        self.0.push_str(sql);
        self
    }

    pub(super) fn number(&mut self, number: impl Number) -> &mut Text {
        let _ = write!(self.0, "{number}");
        self
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) -> &mut Text {
        self.0.push_str("x'");
        HEXLOWER.encode_append(bytes, &mut self.0);
        self.0.push('\'');
        self
    }

    /// Appends items until the statement is long enough; at least one.
    pub(super) fn list<T>(
        &mut self,
        items: &mut std::iter::Peekable<impl Iterator<Item = T>>,
        mut push: impl FnMut(&mut Text, T),
    ) {
        let mut is_first = true;
        while is_first || self.0.len() < STATEMENT_BYTES {
            let Some(item) = items.next() else { return };
            self.sql(if is_first { "" } else { "," });
            push(self, item);
            is_first = false;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn into_string(self) -> String {
        self.0
    }
}

/// Integers: what may stand in a statement besides constants and byte literals.
pub(super) trait Number: std::fmt::Display {}
impl Number for u32 {}
impl Number for u64 {}
impl Number for i64 {}
impl Number for usize {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_become_hexadecimal_literals_and_long_lists_are_split() {
        let mut text = Text::new("a ");
        text.bytes(b"').;\0").sql(" b ").number(7_u32);
        assert_eq!(text.into_string(), "a x'27292e3b00' b 7");

        let items = vec![vec![0_u8; 1024 * 1024]; 5];
        let mut items = items.iter().peekable();
        let mut statements = 0;
        while items.peek().is_some() {
            let mut text = Text::new("");
            text.list(&mut items, |text, item| {
                text.bytes(item);
            });
            assert!(text.into_string().len() < STATEMENT_BYTES + 3 * 1024 * 1024);
            statements += 1;
        }
        assert_eq!(statements, 3);
    }
}
