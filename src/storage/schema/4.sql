CREATE TABLE touched (
    consumer TEXT NOT NULL PRIMARY KEY,
    stamp INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX touched_since ON touched (stamp);

CREATE TRIGGER consumer_added AFTER INSERT ON consumers BEGIN
    INSERT INTO touched (consumer, stamp) VALUES (NEW.name, (SELECT changes + 1 FROM store))
    ON CONFLICT (consumer) DO UPDATE SET stamp = excluded.stamp;
END;
CREATE TRIGGER consumer_changed AFTER UPDATE ON consumers BEGIN
    INSERT INTO touched (consumer, stamp)
    VALUES (OLD.name, (SELECT changes + 1 FROM store)), (NEW.name, (SELECT changes + 1 FROM store))
    ON CONFLICT (consumer) DO UPDATE SET stamp = excluded.stamp;
END;
CREATE TRIGGER consumer_removed AFTER DELETE ON consumers BEGIN
    INSERT INTO touched (consumer, stamp) VALUES (OLD.name, (SELECT changes + 1 FROM store))
    ON CONFLICT (consumer) DO UPDATE SET stamp = excluded.stamp;
END;

CREATE TRIGGER token_added AFTER INSERT ON tokens BEGIN
    INSERT INTO touched (consumer, stamp) VALUES (NEW.consumer, (SELECT changes + 1 FROM store))
    ON CONFLICT (consumer) DO UPDATE SET stamp = excluded.stamp;
END;
CREATE TRIGGER token_changed
AFTER UPDATE OF id, consumer, digest, created, expires, revoked, note ON tokens BEGIN
    INSERT INTO touched (consumer, stamp)
    VALUES (OLD.consumer, (SELECT changes + 1 FROM store)), (NEW.consumer, (SELECT changes + 1 FROM store))
    ON CONFLICT (consumer) DO UPDATE SET stamp = excluded.stamp;
END;
CREATE TRIGGER token_removed AFTER DELETE ON tokens BEGIN
    INSERT INTO touched (consumer, stamp) VALUES (OLD.consumer, (SELECT changes + 1 FROM store))
    ON CONFLICT (consumer) DO UPDATE SET stamp = excluded.stamp;
END;

CREATE TRIGGER access_key_added AFTER INSERT ON access_keys BEGIN
    INSERT INTO touched (consumer, stamp) VALUES (NEW.consumer, (SELECT changes + 1 FROM store))
    ON CONFLICT (consumer) DO UPDATE SET stamp = excluded.stamp;
END;
CREATE TRIGGER access_key_changed
AFTER UPDATE OF id, consumer, sealed, algorithms, strict, created, expires, revoked, note ON access_keys BEGIN
    INSERT INTO touched (consumer, stamp)
    VALUES (OLD.consumer, (SELECT changes + 1 FROM store)), (NEW.consumer, (SELECT changes + 1 FROM store))
    ON CONFLICT (consumer) DO UPDATE SET stamp = excluded.stamp;
END;
CREATE TRIGGER access_key_removed AFTER DELETE ON access_keys BEGIN
    INSERT INTO touched (consumer, stamp) VALUES (OLD.consumer, (SELECT changes + 1 FROM store))
    ON CONFLICT (consumer) DO UPDATE SET stamp = excluded.stamp;
END;
