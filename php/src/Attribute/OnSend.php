<?php

declare(strict_types=1);

namespace Ws2Api\Attribute;

use Attribute;

/**
 * Marks the method that takes a client's SEND (OCPP 2.1); nothing answers it.
 */
#[Attribute(Attribute::TARGET_METHOD | Attribute::IS_REPEATABLE)]
final class OnSend
{
    /** @param string|null $action null: every Action that no other method is named for */
    public function __construct(public readonly ?string $action = null)
    {
    }
}
