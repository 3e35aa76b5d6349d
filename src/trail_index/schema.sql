-- What `audit search` finds calls by. All of it is derived from the segments and can be made anew.
-- Few kinds, targets and details make up many events: conditions are looked up among those first.

CREATE TABLE reached (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    stem TEXT NOT NULL,     -- the segment that was read last
    next INTEGER NOT NULL,  -- the byte in it to go on from
    last INTEGER,           -- where its last line begins that was read
    hash TEXT NOT NULL,     -- and the hash of that line
    events INTEGER NOT NULL -- how many events were read
);
CREATE TABLE segments (id INTEGER PRIMARY KEY, stem TEXT NOT NULL UNIQUE);

-- What many calls have in common. `events`: how many have it, at most.
CREATE TABLE kinds (
    id INTEGER PRIMARY KEY, event TEXT NOT NULL, what TEXT, consumer TEXT, via TEXT, upstream TEXT, method TEXT,
    org TEXT, credential TEXT, credential_version INTEGER, rule TEXT, decision TEXT, code TEXT, status INTEGER, ended TEXT,
    events INTEGER NOT NULL,
    first INTEGER,          -- the `seq` of the first of them
    last INTEGER            -- and of the last
);
CREATE TABLE targets (
    id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE,
    path TEXT NOT NULL,     -- without a query, and without slashes at its ends
    slashes INTEGER NOT NULL, events INTEGER NOT NULL
);
CREATE TABLE details (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE, events INTEGER NOT NULL);

-- One for each outcome, and for each event that is of no call.
CREATE TABLE events (
    seq INTEGER PRIMARY KEY, time INTEGER NOT NULL, kind INTEGER NOT NULL, target INTEGER NOT NULL,
    detail INTEGER NOT NULL, segment INTEGER NOT NULL, place INTEGER NOT NULL, call BLOB
);
-- The times of each 4096 events: clocks are set back.
CREATE TABLE spans (block INTEGER PRIMARY KEY, first INTEGER NOT NULL, last INTEGER NOT NULL);
-- Calls without an outcome so far.
CREATE TABLE open (call TEXT PRIMARY KEY, seq INTEGER NOT NULL, segment INTEGER NOT NULL, place INTEGER NOT NULL);
