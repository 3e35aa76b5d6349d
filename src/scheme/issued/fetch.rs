//! Fetches a token for one call and for all callers that wait for it. The login continues even if the call that caused
//! it is cancelled.

use std::pin::Pin;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::cache::{LoginLease, Lookup, SUSPECT_WAIT, UpstreamToken};
use super::context::{LoginContext, LoginRequest};
use super::error::{LoginError, Verdict};
use super::source::TokenSource;
use crate::clock::Clock;
use crate::code::Failure;
use crate::transport::{Fetched, fetch};

/// The number of times that a call waits for a login that is aborted because its worker ends.
const PATIENCE: u32 = 4;

/// A request for a token, already being sent.
struct SentLogin {
    answer: Pin<Box<dyn Future<Output = Result<Fetched, Failure>>>>,
    secret: Zeroizing<Vec<u8>>,
    refresh: bool,
}

impl SentLogin {
    fn new(request: LoginRequest<'_>, refresh: bool) -> Self {
        Self { answer: Box::pin(fetch(&request.to, request.signed)), secret: request.secret, refresh }
    }
}

/// Returns a cached or a new token. If another caller is fetching it, this call waits for the result.
///
/// # Errors
/// A [`Failure`] if no token can be obtained.
pub async fn get_token(
    context: &LoginContext<'_, '_>,
    source: &TokenSource,
) -> Result<Arc<UpstreamToken>, Failure> {
    let slot = context.slot.ok_or_else(|| Failure::internal("the credential has no token slot"))?;
    for _ in 0..PATIENCE {
        let pending = match slot.lookup(context.clock.now()) {
            Lookup::Fresh(token) => return Ok(token),
            Lookup::RefreshAhead(token, lease) => {
                // The cached token is valid; an error is reported once it no longer is.
                spawn_login(context, lease, source).unwrap_or_default();
                return Ok(token);
            }
            Lookup::Backoff(error) => return Err(error.failure),
            Lookup::Leader(lease) => {
                let pending = lease.pending();
                spawn_login(context, lease, source)?;
                pending
            }
            Lookup::Follower(pending) => pending,
        };
        let result = match slot.cached(context.clock.now()) {
            None => pending.wait().await,
            Some(cached) => match tokio::time::timeout(SUSPECT_WAIT, pending.wait()).await {
                Ok(result) => result,
                Err(_) => return Ok(cached),
            },
        };
        match result {
            Some(Ok(token)) => return Ok(token),
            Some(Err(error)) => return slot.cached(context.clock.now()).ok_or(error.failure),
            None => {}
        }
    }
    Err(Failure::internal("every login was aborted"))
}

/// Starts the requests for a token. All callers learn the result through the lease.
fn spawn_login(
    context: &LoginContext<'_, '_>,
    lease: LoginLease,
    source: &TokenSource,
) -> Result<(), Failure> {
    let mut logins = Vec::new();
    if let Some(token) = lease.refresh()
        && let Some(request) = source.refresh_request(context, token)?
    {
        logins.push(SentLogin::new(request, true));
    }
    for destination in std::iter::once(context.destination).chain(context.alternative) {
        logins.push(SentLogin::new(source.login_request(context, destination)?, false));
    }
    context.logins.set(context.logins.get() + 1);
    let (source, clock) = (source.clone(), Arc::clone(context.clock));
    // Not joined: the task ends within the endpoint's time-out or with its worker, and the waiting callers learn of both.
    drop(tokio::task::spawn_local(run_login(lease, logins, source, clock)));
    Ok(())
}

async fn run_login(
    mut lease: LoginLease,
    logins: Vec<SentLogin>,
    source: TokenSource,
    clock: Arc<dyn Clock>,
) {
    let (mut result, mut sent) = (Err(LoginError::possible("no login was sent")), None);
    for SentLogin { answer, secret, refresh } in logins {
        result = match answer.await {
            Ok(fetched) => source.parse_response(&fetched, clock.now(), &secret),
            Err(failure) => Err(failure.into()),
        };
        match &result {
            Err(error) if refresh && error.verdict != Verdict::Unheard => lease.forget_refresh(),
            Err(error) if error.is_of_connecting() => {}
            Ok(_) | Err(_) => {
                sent = Some(secret);
                break;
            }
        }
    }
    if let (Err(error), Some(secret)) = (&result, sent)
        && error.counts()
    {
        lease.mark(secret).await;
    }
    lease.complete(result, clock.now());
}
