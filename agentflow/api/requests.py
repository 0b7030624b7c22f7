"""How is a request's body read? As JSON whatever its Content-Type says, and with a plain word where it is none."""

import json
from typing import Any

import flask

from agentflow.errors import Malformed


class JsonRequest(flask.Request):
    """A request whose body is JSON or nothing. NaN and Infinity, which JSON lacks, are read as numbers all the same."""

    def get_json(self, force: bool = False, silent: bool = False, cache: bool = True) -> Any:
        """The body.

        Raises:
            Malformed: it is not JSON; says where.
            RequestEntityTooLarge: it is larger than the limit.
        """
        body = self.get_data()
        if not body:
            raise Malformed("the request has no body; JSON is expected")
        try:
            content = json.loads(body.decode())
        except UnicodeDecodeError:
            raise Malformed("the body is not JSON: it is not UTF-8") from None
        except json.JSONDecodeError as error:
            place = f"line {error.lineno}, column {error.colno}"
            raise Malformed(f"the body is not JSON: {error.msg} at {place}") from None
        except RecursionError:
            raise Malformed("the body is nested too deep") from None
        except ValueError as error:  # an integer of more digits than Python reads
            raise Malformed(f"the body cannot be read: {error}") from None
        if not isinstance(content, dict):
            raise Malformed("the body must be a JSON object")
        return content
