//! Samples of all metrics, taken in short steps and kept for a while: what the console draws.

use std::sync::Arc;

use kvasir_api::admin::metrics::{EVERY_MS, Series};
use kvasir_kv::Clock;

use super::probes::Probes;

/// Takes samples for as long as it is polled.
pub async fn sample(probes: Arc<Probes>, series: Arc<Series>, clock: Arc<dyn Clock>) {
    loop {
        let now = clock.now();
        if let Some(text) = probes.metrics_text() {
            series.take(now, &text);
        }
        let next = now.checked_add_ms(EVERY_MS).unwrap_or(now);
        clock.sleep_until(next).await;
    }
}
