-- How many messages a channel has. As live as a function, and nobody has to say what it reads.
-- @param channel text
select count(*) as messages
from messages
where doc->>'channel' = $1
