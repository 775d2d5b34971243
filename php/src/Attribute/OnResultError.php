<?php

declare(strict_types=1);

namespace Ws2Api\Attribute;

use Attribute;

/**
 * Marks the method that is told that a client could not use an answer (OCPP 2.1).
 */
#[Attribute(Attribute::TARGET_METHOD | Attribute::IS_REPEATABLE)]
final class OnResultError
{
    /** @param string|null $action null: every Action that no other method is named for */
    public function __construct(public readonly ?string $action = null)
    {
    }
}
