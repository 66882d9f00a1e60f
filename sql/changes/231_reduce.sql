-- A part of a trade may leave: [exit] scale_out.
ALTER TABLE trading.decision DROP CONSTRAINT decision_action_check,
    ADD CONSTRAINT decision_action_check
        CHECK (action IN ('ENTER_LONG', 'ENTER_SHORT', 'HOLD', 'AMEND', 'REDUCE', 'ROLL', 'EXIT', 'NONE', 'DENIED')),
    DROP CONSTRAINT decision_amend,
    ADD CONSTRAINT decision_amend
        CHECK (CASE action WHEN 'AMEND' THEN stop IS NOT NULL WHEN 'REDUCE' THEN true ELSE stop IS NULL END);
ALTER TABLE trading.intent DROP CONSTRAINT intent_action_check,
    ADD CONSTRAINT intent_action_check CHECK (action IN ('ENTER_LONG', 'ENTER_SHORT', 'ROLL', 'REDUCE', 'EXIT')),
    DROP CONSTRAINT intent_score,
    ADD CONSTRAINT intent_score CHECK (action IN ('ROLL', 'REDUCE', 'EXIT') OR score IS NOT NULL);
COMMENT ON COLUMN api.decisions.action IS 'ENTER_LONG, ENTER_SHORT, HOLD, AMEND, REDUCE, ROLL, EXIT, NONE, DENIED';
