<?php

declare(strict_types=1);

namespace Ws2Api;

/**
 * Returned for a Call: its answer comes later, by {@see Ingress::answer()} or {@see Ingress::fail()} with the request's
 * {@see Request::ticket()}, and within `call_timeout`.
 */
final class Deferred
{
}
