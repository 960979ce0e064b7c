//! Which model: the one that the host resolved, else one of the catalogue.

use std::time::Duration;

use airlock_shared::job::Job;
use airlock_shared::limits;
use airlock_shared::model::{Catalogue, Model};
use airlock_shared::outcome::{Fault, FaultKind};
use tokio::time::timeout;

use crate::responses::retry::{self, RetryDecision};
use crate::responses::{Client, GiveUp};

/// Chooses the model. If the model was named, a catalogue that cannot be read is no fault.
pub(super) async fn choose(client: &mut Client, job: &Job) -> Result<Model, Fault> {
    let choice = &job.model;
    if let Some(model) = &choice.resolved {
        client.warm().await;
        return Ok(model.clone());
    }
    let slug = choice.slug.as_deref();
    let seconds =
        if slug.is_some() { limits::CATALOGUE_SECONDS_NAMED } else { limits::CATALOGUE_SECONDS };
    let catalogue = match (timeout(Duration::from_secs(seconds), client.models()).await, slug) {
        (Ok(Ok(answer)), _) => Catalogue::parse(&answer),
        (_, Some(_)) => Catalogue::default(),
        (Ok(Err(failure)), None) => {
            let fault = match retry::decide(&failure, limits::RETRIES, 0.0) {
                RetryDecision::End(GiveUp::Fault(fault)) => fault,
                _ => Fault::new(FaultKind::Model, "the backend gave none"),
            };
            let message =
                format!("no model was named, and the catalogue could not be read: {fault}");
            return Err(Fault::new(fault.kind, message));
        }
        (Err(_late), None) => {
            let message =
                format!("no model was named, and the catalogue took longer than {seconds} s");
            return Err(Fault::new(FaultKind::Backend, message));
        }
    };
    let chosen = catalogue.choose(slug, choice.effort.as_deref());
    chosen.map_err(|error| Fault::new(FaultKind::Model, error.to_string()))
}
