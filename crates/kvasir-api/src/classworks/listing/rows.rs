//! The rows of one namespace in all their orders. No store, no waiting.
//!
//! Rows stand in a slab and orders are lists of places in it, so that a change moves four bytes per
//! row and order. Applying changes copies each order once, whatever their number; looking up a page
//! costs nothing but the page.

use std::cmp::Ordering;

use kvasir_kv::{Entry, UnixMillis, Versionstamp};

use super::super::wire::{self, Metadata, SortBy, Stamp};

/// What a list shows of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Row {
    pub(in super::super) key: Box<str>,
    creator_ip: Box<str>,
    created_at: UnixMillis,
    updated_at: UnixMillis,
    pub(super) expires_at: Option<UnixMillis>,
    pub(super) versionstamp: Versionstamp,
}

impl Row {
    pub(super) fn new(key: String, entry: &Entry) -> Row {
        Row {
            key: key.into(),
            creator_ip: wire::creator_of(entry).into(),
            created_at: entry.created_at(),
            updated_at: entry.versionstamp.time(),
            expires_at: entry.expires_at,
            versionstamp: entry.versionstamp,
        }
    }

    pub(in super::super) fn metadata(&self) -> Metadata<'_> {
        Metadata {
            creator_ip: &self.creator_ip,
            created_at: Stamp(self.created_at),
            updated_at: Stamp(self.updated_at),
        }
    }

    /// About what the row costs in memory, its places in the orders included.
    pub(super) fn cost_bytes(&self) -> usize {
        // Two allocations with their heads, and four places.
        size_of::<Row>() + self.key.len() + self.creator_ip.len() + 2 * 16 + 4 * 4
    }

    /// The order of two rows. Ties go by key.
    fn compare(&self, other: &Row, by: Order) -> Ordering {
        let first = match by {
            Order::Key => Ordering::Equal,
            Order::CreatedAt => self.created_at.cmp(&other.created_at),
            Order::UpdatedAt => self.updated_at.cmp(&other.updated_at),
            Order::CreatorIp => self.creator_ip.cmp(&other.creator_ip),
        };
        first.then_with(|| self.key.cmp(&other.key))
    }
}

/// The orders that differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Order {
    Key,
    CreatedAt,
    UpdatedAt,
    CreatorIp,
}

impl Order {
    const ALL: [Order; 4] = [
        Order::Key,
        Order::CreatedAt,
        Order::UpdatedAt,
        Order::CreatorIp,
    ];

    fn of(by: SortBy) -> Order {
        match by {
            SortBy::Key | SortBy::Namespace => Order::Key,
            SortBy::CreatedAt => Order::CreatedAt,
            SortBy::UpdatedAt => Order::UpdatedAt,
            SortBy::CreatorIp => Order::CreatorIp,
        }
    }
}

/// The new state of a key.
#[derive(Debug)]
pub(super) enum Change {
    Set(Row),
    Gone(String),
}

impl Change {
    pub(super) fn key(&self) -> &str {
        match self {
            Change::Set(row) => &row.key,
            Change::Gone(key) => key,
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(in super::super) struct Rows {
    slab: Vec<Row>,
    /// Places in the slab that no order names.
    free: Vec<u32>,
    /// Places by [`Order`]. The one by key is always there, the others once they were asked for.
    orders: [Option<Vec<u32>>; Order::ALL.len()],
    cost_bytes: usize,
    /// Before this moment no row has expired.
    pub(super) expires_at: Option<UnixMillis>,
}

impl Rows {
    /// Rows that come in the order of their keys, each key once.
    pub(super) fn from_sorted(slab: Vec<Row>) -> Rows {
        debug_assert!(slab.is_sorted_by(|a, b| a.key < b.key), "each key once");
        let by_key = (0..).zip(&slab).map(|(place, _)| place).collect();
        let mut rows = Rows {
            cost_bytes: slab.iter().map(Row::cost_bytes).sum(),
            slab,
            ..Rows::default()
        };
        rows.orders[Order::Key as usize] = Some(by_key);
        rows.note_expiry();
        rows
    }

    /// How many rows there are.
    pub(in super::super) fn len(&self) -> usize {
        self.by_key().len()
    }

    pub(super) fn cost_bytes(&self) -> usize {
        self.cost_bytes
    }

    fn by_key(&self) -> &[u32] {
        self.orders[Order::Key as usize]
            .as_deref()
            .unwrap_or_default()
    }

    fn find(&self, key: &str) -> Option<u32> {
        let by_key = self.by_key();
        let found = by_key.binary_search_by(|place| (*self.slab[*place as usize].key).cmp(key));
        found.ok().map(|at| by_key[at])
    }

    /// A page. The first one in a new order sorts all rows.
    pub(in super::super) fn page(
        &mut self,
        by: SortBy,
        descending: bool,
        skip: u64,
        limit: usize,
    ) -> impl Iterator<Item = &Row> {
        let by = Order::of(by);
        self.sort(by);
        let slab = &self.slab;
        let order = self.orders[by as usize].as_deref().unwrap_or_default();
        let count = order.len();
        let skip = usize::try_from(skip).map_or(count, |skip| skip.min(count));
        let taken = limit.min(count - skip);
        (skip..skip + taken).map(move |at| {
            let at = if descending { count - 1 - at } else { at };
            &slab[order[at] as usize]
        })
    }

    /// Makes all orders, so that no page has to.
    pub(super) fn prepare(&mut self) {
        for by in Order::ALL {
            self.sort(by);
        }
    }

    fn sort(&mut self, by: Order) {
        if self.orders[by as usize].is_some() {
            return;
        }
        let slab = &self.slab;
        let mut order = self.by_key().to_vec();
        order.sort_by(|a, b| slab[*a as usize].compare(&slab[*b as usize], by));
        self.orders[by as usize] = Some(order);
    }

    /// Applies changes, at most one per key.
    pub(super) fn apply(&mut self, changes: Vec<Change>) {
        if changes.is_empty() {
            return;
        }
        // First everything that changes leaves the orders, then the slab changes, then it returns.
        let mut is_stale = vec![false; self.slab.len()];
        let mut fresh = Vec::with_capacity(changes.len());
        for change in changes {
            let place = self.find(change.key());
            if let Some(place) = place {
                is_stale[place as usize] = true;
                self.cost_bytes -= self.slab[place as usize].cost_bytes();
            }
            match change {
                Change::Set(row) => fresh.push((place, row)),
                Change::Gone(_) => self.free.extend(place),
            }
        }
        for order in self.orders.iter_mut().flatten() {
            order.retain(|place| !is_stale[*place as usize]);
        }
        let mut places = Vec::with_capacity(fresh.len());
        for (place, row) in fresh {
            self.cost_bytes += row.cost_bytes();
            let place = match place.or_else(|| self.free.pop()) {
                Some(place) => {
                    self.slab[place as usize] = row;
                    place
                }
                None => {
                    self.slab.push(row);
                    u32::try_from(self.slab.len() - 1).expect("fewer rows than a u32 counts")
                }
            };
            places.push(place);
        }
        let slab = &self.slab;
        for by in Order::ALL {
            if let Some(order) = &mut self.orders[by as usize] {
                let compare = |a: &u32, b: &u32| slab[*a as usize].compare(&slab[*b as usize], by);
                places.sort_by(compare);
                *order = merged(order, &places, compare);
            }
        }
        self.note_expiry();
    }

    fn note_expiry(&mut self) {
        let places = self.by_key().iter();
        self.expires_at = places
            .filter_map(|place| self.slab[*place as usize].expires_at)
            .min();
    }

    /// Takes out what has expired.
    pub(super) fn expire(&mut self, now: UnixMillis) {
        if self.expires_at.is_none_or(|at| now < at) {
            return;
        }
        let rows = self
            .by_key()
            .iter()
            .map(|place| &self.slab[*place as usize]);
        let gone = rows
            .filter(|row| row.expires_at.is_some_and(|at| at <= now))
            .map(|row| Change::Gone(row.key.to_string()))
            .collect();
        self.apply(gone);
    }
}

/// Two sorted lists as one.
fn merged(long: &[u32], short: &[u32], compare: impl Fn(&u32, &u32) -> Ordering) -> Vec<u32> {
    let mut out = Vec::with_capacity(long.len() + short.len());
    let mut rest = long;
    for place in short {
        let at = rest.partition_point(|other| compare(other, place).is_lt());
        out.extend_from_slice(&rest[..at]);
        out.push(*place);
        rest = &rest[at..];
    }
    out.extend_from_slice(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(key: &str, created: i64, updated: i64, ip: &str) -> Row {
        Row {
            key: key.into(),
            creator_ip: ip.into(),
            created_at: UnixMillis(created),
            updated_at: UnixMillis(updated),
            expires_at: None,
            versionstamp: Versionstamp::ZERO,
        }
    }

    fn keys(rows: &mut Rows, by: SortBy, descending: bool) -> Vec<String> {
        let page = rows.page(by, descending, 0, usize::MAX);
        page.map(|row| row.key.to_string()).collect()
    }

    const ORDERS: [SortBy; 5] = [
        SortBy::Key,
        SortBy::CreatedAt,
        SortBy::UpdatedAt,
        SortBy::CreatorIp,
        SortBy::Namespace,
    ];

    #[test]
    fn changes_leave_every_order_as_if_built_anew() {
        // A small generator is enough: the states are compared after each of many rounds.
        let mut seed = 7_u64;
        let mut random = move |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) % below
        };
        let mut expected = std::collections::BTreeMap::new();
        let mut rows = Rows::from_sorted(Vec::new());
        for by in ORDERS {
            assert!(keys(&mut rows, by, false).is_empty());
        }
        for round in 0..200 {
            let mut changes = std::collections::BTreeMap::new();
            for _ in 0..random(9) {
                let key = format!("k{}", random(40));
                let change = match random(3) {
                    0 => Change::Gone(key.clone()),
                    _ => Change::Set(row(
                        &key,
                        random(5) as i64,
                        random(5) as i64,
                        ["a", "b"][random(2) as usize],
                    )),
                };
                changes.insert(key, change);
            }
            for (key, change) in &changes {
                match change {
                    Change::Set(row) => expected.insert(key.clone(), row.clone()),
                    Change::Gone(key) => expected.remove(key),
                };
            }
            rows.apply(changes.into_values().collect());

            let mut anew = Rows::from_sorted(expected.values().cloned().collect());
            assert_eq!(rows.len(), expected.len());
            assert_eq!(rows.cost_bytes(), anew.cost_bytes(), "round {round}");
            for by in ORDERS {
                for descending in [false, true] {
                    let found = keys(&mut rows, by, descending);
                    assert_eq!(found, keys(&mut anew, by, descending), "round {round}");
                }
            }
        }
    }

    #[test]
    fn pages_end_where_the_rows_end() {
        let mut rows = Rows::from_sorted(vec![row("a", 0, 0, ""), row("b", 0, 0, "")]);
        let mut count = |skip, limit| rows.page(SortBy::Key, true, skip, limit).count();
        assert_eq!(count(0, 1), 1);
        assert_eq!(count(1, 10), 1);
        assert_eq!(count(2, 10), 0);
        assert_eq!(count(u64::MAX, usize::MAX), 0);
    }

    #[test]
    fn expired_rows_leave() {
        let mut fading = row("b", 0, 0, "");
        fading.expires_at = Some(UnixMillis(10));
        let mut rows = Rows::from_sorted(vec![row("a", 0, 0, ""), fading]);
        rows.expire(UnixMillis(9));
        assert_eq!(rows.len(), 2);
        rows.expire(UnixMillis(10));
        assert_eq!(keys(&mut rows, SortBy::Key, false), ["a"]);
        assert_eq!(rows.expires_at, None);
    }
}
