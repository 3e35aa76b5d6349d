-- The state up to which a custodian has given up what the trail knows of, as a stamp.

ALTER TABLE store ADD COLUMN accepted TEXT;
