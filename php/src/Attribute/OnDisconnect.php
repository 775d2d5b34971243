<?php

declare(strict_types=1);

namespace Ws2Api\Attribute;

use Attribute;

/**
 * Marks the method that is told of the end of a connection.
 */
#[Attribute(Attribute::TARGET_METHOD)]
final class OnDisconnect
{
}
