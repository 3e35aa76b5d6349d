CREATE TABLE store (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    changes INTEGER NOT NULL,
    proof BLOB
) STRICT;
INSERT INTO store (one, changes) VALUES (1, 0);

CREATE TABLE consumers (
    name TEXT NOT NULL PRIMARY KEY,
    created INTEGER NOT NULL,
    disabled INTEGER NOT NULL,
    note TEXT
) STRICT, WITHOUT ROWID;

CREATE TABLE tokens (
    id TEXT NOT NULL PRIMARY KEY,
    consumer TEXT NOT NULL,
    digest BLOB NOT NULL UNIQUE CHECK (length(digest) = 32),
    created INTEGER NOT NULL,
    expires INTEGER,
    revoked INTEGER,
    last_used INTEGER,
    note TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX tokens_of_consumer ON tokens (consumer);

CREATE TABLE credentials (
    name TEXT NOT NULL PRIMARY KEY,
    upstream TEXT NOT NULL,
    kind TEXT NOT NULL,
    created INTEGER NOT NULL,
    disabled INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE versions (
    credential TEXT NOT NULL REFERENCES credentials (name) ON DELETE CASCADE,
    version INTEGER NOT NULL CHECK (version > 0),
    stage TEXT NOT NULL CHECK (stage IN ('staged', 'active', 'retired')),
    sealed BLOB NOT NULL,
    created INTEGER NOT NULL,
    until INTEGER,
    PRIMARY KEY (credential, version)
) STRICT, WITHOUT ROWID;

CREATE TABLE frozen (
    what TEXT NOT NULL CHECK (what IN ('gateway', 'upstream', 'consumer', 'credential')),
    name TEXT NOT NULL,
    PRIMARY KEY (what, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE notes (
    id TEXT NOT NULL PRIMARY KEY,
    members TEXT NOT NULL
) STRICT, WITHOUT ROWID;
