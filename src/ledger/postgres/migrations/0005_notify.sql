-- Servers that listen read changed records at once. Those that do not hear of it find them by a poll.

CREATE FUNCTION rootbridge_notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('rootbridge_changed', '');
    RETURN NULL;
END $$;
CREATE TRIGGER revision_notify AFTER UPDATE ON revision FOR EACH STATEMENT
    EXECUTE FUNCTION rootbridge_notify();
