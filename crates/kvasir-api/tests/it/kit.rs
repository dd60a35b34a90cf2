//! What every dialect gets from the kit.

use http::StatusCode;

use crate::support::World;

#[tokio::test]
async fn a_request_that_no_dialect_claims_is_a_plain_404_with_a_request_id() {
    let app = World::new().app(Vec::new());
    let answer = app.send("GET", "/nowhere", &[], "").await;

    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    assert_eq!(answer.text(), "no such route\n");
    assert_eq!(answer.header("x-request-id").map(str::len), Some(16));
}
