//! Placing and reading orders.

use futures_util::{Stream, StreamExt, stream};
use kvasir_kv::{AtomicWrite, Keyspace, Mutation, Outcome, SnapshotRead};

use super::catalogue::Catalogue;
use super::records::{self, Order, OrderItem};
use super::users::Users;
use crate::error::ApiError;

/// How often an order that met a concurrent change of its user or products is tried again.
const TRIES_MAX: u32 = 5;

/// Places an order: prices from the store, one commit that checks the user and every product.
///
/// # Errors
///
/// 400 for an unknown product or a total over [`records::INTEGER_MAX`], 409 after too many
/// concurrent changes.
pub(super) async fn place(
    users: &Users,
    catalogue: &Catalogue,
    user: &str,
    items: Vec<OrderItem>,
) -> Result<Order, ApiError> {
    let overflow = || ApiError::bad_request("the total of the order is too large");
    for _ in 0..TRIES_MAX {
        let Some(user_stamp) = users.versionstamp(user).await? else {
            return Err(ApiError::unauthorized("the account is gone"));
        };
        let mut write = AtomicWrite::new().check(records::user_key(user), user_stamp);
        let mut total = 0u64;
        for item in &items {
            let product = catalogue.get(&item.product_id).await?.ok_or_else(|| {
                ApiError::bad_request(format!("Unknown product {:?}", item.product_id))
                    .with_code("unknown_product")
            })?;
            let price = product.record.price.checked_mul(item.quantity);
            total = price
                .and_then(|price| total.checked_add(price))
                .filter(|total| *total <= records::INTEGER_MAX)
                .ok_or_else(overflow)?;
            write = write.check(records::product_key(&item.product_id), product.versionstamp);
        }
        let order = Order {
            id: uuid::Uuid::new_v4().to_string(),
            user_id: user.to_owned(),
            items: items.clone(),
            total,
            status: "pending".to_owned(),
            created_at: records::timestamp(users.clock().now()),
        };
        let mark = serde_json::json!({ "status": order.status });
        write = write
            .push(Mutation::set(
                records::order_key(&order.id),
                records::stored(&order),
            ))
            .push(Mutation::set(
                records::user_order_key(user, &order.id),
                records::stored(&mark),
            ));
        if let Outcome::Committed(_) = users.data().commit(write).await? {
            return Ok(order);
        }
    }
    Err(ApiError::new(
        http::StatusCode::CONFLICT,
        "conflict",
        "the account or a product is being changed, try again",
    ))
}

/// One of a user's own orders.
pub(super) async fn get(
    keyspace: &Keyspace,
    user: &str,
    id: &str,
) -> Result<Option<Order>, ApiError> {
    let entry = keyspace.get(&records::order_key(id)).await?;
    let order = entry.and_then(|entry| records::read::<Order>(&entry));
    Ok(order.filter(|order| order.user_id == user))
}

/// A user's orders, page by page.
pub(super) fn list(
    keyspace: &Keyspace,
    user: &str,
) -> impl Stream<Item = Result<Vec<Order>, ApiError>> + Send + 'static {
    let pages = keyspace.scan(&records::user_orders(user), false);
    let keyspace = keyspace.clone();
    let user = user.to_owned();
    stream::unfold(pages, move |mut pages| {
        let (keyspace, user) = (keyspace.clone(), user.clone());
        async move {
            let page = pages.next().await?;
            let orders = async {
                let keys: Vec<_> = page?
                    .entries
                    .iter()
                    .filter_map(|entry| records::last_string(&entry.key, 4))
                    .map(|id| records::order_key(&id))
                    .collect();
                let found = keyspace.read(SnapshotRead::keys(keys)).await?;
                let orders = found.into_firsts().flatten();
                Ok(orders
                    .filter_map(|entry| records::read::<Order>(&entry))
                    .filter(|order| order.user_id == user)
                    .collect())
            };
            Some((orders.await, pages))
        }
    })
}
