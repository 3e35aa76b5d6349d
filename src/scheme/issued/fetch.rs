//! Fetches a token for one call and for all callers that wait for it. The login continues even if the call that caused
//! it is cancelled.

use std::cell::Cell;
use std::pin::Pin;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::cache::{
    LoginError, LoginLease, Lookup, SUSPECT_WAIT, TokenResponse, TokenSlot, UpstreamToken, Verdict,
};
use crate::audit::Entry;
use crate::clock::Clock;
use crate::code::Code;
use crate::custody::Unsealed;
use crate::scheme::{SignError, TokenSource};
use crate::transport::{Endpoint, Failure, Fetched, OutboundSettings, Signed, fetch};

/// The number of times that a call waits for a login that is aborted because its worker ends.
const PATIENCE: u32 = 4;

/// The context in which a call fetches a token.
pub struct LoginContext<'e, 's> {
    /// The recorded call.
    pub entry: &'e Entry,
    /// The call's credential.
    pub credential: &'s Unsealed<'e>,
    /// The token slot of this credential; `None` if its scheme uses no tokens.
    pub slot: Option<&'s Arc<TokenSlot>>,
    /// The upstream's endpoint.
    pub endpoint: &'s Endpoint,
    /// The outbound settings for the endpoint.
    pub manners: &'s OutboundSettings,
    /// The alternative destination, used if the endpoint cannot be reached.
    pub around: Option<(&'s Endpoint, &'s OutboundSettings)>,
    /// The wall clock.
    pub clock: &'s Arc<dyn Clock>,
    /// Counts the logins that were begun.
    pub logins: Cell<u32>,
}

/// A request for a token, ready to be sent.
pub(in crate::scheme) struct LoginRequest<'e> {
    pub(in crate::scheme) to: Endpoint,
    pub(in crate::scheme) signed: Signed<'e>,
    /// The secret that an excerpt of the response must not repeat.
    pub(in crate::scheme) secret: Zeroizing<Vec<u8>>,
}

/// A request for a token, already being sent.
struct SentLogin {
    answer: Pin<Box<dyn Future<Output = Result<Fetched, Failure>>>>,
    secret: Zeroizing<Vec<u8>>,
    refresh: bool,
}

impl LoginContext<'_, '_> {
    /// Returns a cached or a new token. If another caller is fetching it, this call waits for the result.
    ///
    /// # Errors
    /// [`Failure`] if no token can be obtained.
    pub(in crate::scheme) async fn get_token(
        &self,
        source: &TokenSource,
    ) -> Result<Arc<UpstreamToken>, Failure> {
        let slot = self.slot.ok_or_else(|| internal("no place for a pass"))?;
        for _ in 0..PATIENCE {
            let flight = match slot.lookup(self.clock.now()) {
                Lookup::Fresh(pass) => return Ok(pass),
                Lookup::RefreshAhead(pass, lease) => {
                    // The cached token is valid; an error is reported once it no longer is.
                    self.spawn_login(lease, source).unwrap_or_default();
                    return Ok(pass);
                }
                Lookup::Backoff(fault) => return Err(fault.into()),
                Lookup::Leader(lease) => {
                    let flight = lease.flight();
                    self.spawn_login(lease, source).map_err(|error| internal(&error))?;
                    flight
                }
                Lookup::Follower(flight) => flight,
            };
            let result = match slot.still_valid(self.clock.now()) {
                None => flight.wait().await,
                Some(left) => match tokio::time::timeout(SUSPECT_WAIT, flight.wait()).await {
                    Ok(result) => result,
                    Err(_) => return Ok(left),
                },
            };
            match result {
                Some(Ok(pass)) => return Ok(pass),
                Some(Err(fault)) => return slot.still_valid(self.clock.now()).ok_or_else(|| fault.into()),
                None => {}
            }
        }
        Err(internal("every login was cut off"))
    }

    /// Returns the same context for the alternative destination, if there is one.
    fn alternative(&self) -> Option<Self> {
        let (endpoint, manners) = self.around?;
        let Self { entry, credential, slot, clock, .. } = *self;
        let (around, logins) = (None, Cell::new(0));
        Some(Self { entry, credential, slot, endpoint, manners, around, clock, logins })
    }

    /// Starts the requests for a token. All callers learn the result through the lease.
    fn spawn_login(&self, lease: LoginLease, source: &TokenSource) -> Result<(), SignError> {
        let mut asked = Vec::new();
        let ready = |request: LoginRequest<'_>, refresh| SentLogin {
            answer: Box::pin(fetch(&request.to, request.signed)),
            secret: request.secret,
            refresh,
        };
        if let Some(token) = lease.refresh()
            && let Some(request) = source.refresh_request(self, token)?
        {
            asked.push(ready(request, true));
        }
        asked.push(ready(source.login_request(self)?, false));
        if let Some(around) = self.alternative() {
            asked.push(ready(source.login_request(&around)?, false));
        }
        self.logins.set(self.logins.get() + 1);
        let (source, clock) = (source.clone(), Arc::clone(self.clock));
        // Not joined: the task ends within the endpoint's time-out or with its worker, and the waiting callers learn of
        // both.
        drop(tokio::task::spawn_local(run_login(lease, (asked, source), clock)));
        Ok(())
    }
}

async fn run_login(
    mut lease: LoginLease,
    (asked, source): (Vec<SentLogin>, TokenSource),
    clock: Arc<dyn Clock>,
) {
    let mut result: Result<TokenResponse, LoginError> = Err(LoginError::possible("nothing was asked"));
    let mut sent = None;
    for SentLogin { answer, secret, refresh } in asked {
        result = match answer.await {
            Ok(fetched) => source.parse_response(&fetched, clock.now(), &secret),
            Err(failure) => Err(failure.into()),
        };
        match &result {
            Err(fault) if refresh && fault.verdict != Verdict::Unheard => lease.forget_refresh(),
            Err(fault) if fault.is_of_connecting() => {}
            Ok(_) | Err(_) => {
                sent = Some(secret);
                break;
            }
        }
    }
    if let (Err(fault), Some(secret)) = (&result, sent)
        && fault.counts()
    {
        lease.mark(secret).await;
    }
    lease.complete(result, clock.now());
}

fn internal(error: &(impl std::fmt::Display + ?Sized)) -> Failure {
    Failure { code: Code::Internal, reason: error.to_string() }
}
